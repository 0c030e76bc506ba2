/* What the application must not have. */
#ifndef MYST_PRIVILEGES_H
#define MYST_PRIVILEGES_H

/* Gives up all capabilities, and that programs started from here on can get any. */
void myst_drop_privileges(void);

/* The same, but this process itself keeps one capability. */
void myst_drop_privileges_but(unsigned capability);

/* The same where this process may not have the privileges that it takes to give up privileges: without new ones
 * (PR_SET_NO_NEW_PRIVS) no program gets any that this process has not. */
void myst_drop_own_privileges(void);

#endif
