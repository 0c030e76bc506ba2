/* What the application must not have. */
#ifndef MYST_PRIVILEGES_H
#define MYST_PRIVILEGES_H

/* Gives up all capabilities, and that programs started from here on can get any. */
void myst_drop_privileges(void);

#endif
