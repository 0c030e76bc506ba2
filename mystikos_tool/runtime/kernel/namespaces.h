/* The namespaces of the sandbox. */
#ifndef MYST_NAMESPACES_H
#define MYST_NAMESPACES_H

/* Moves the process into a user, mount, UTS and IPC namespace of its own, in which the caller's user and group
 * are 0 and there are no others. */
void myst_enter_namespaces(void);

/* Gives the process's children a PID namespace, in which the next one is process 1. From then on the process can
 * have no more threads (pid_namespaces(7)). */
void myst_enter_process_namespace(void);

/* Refuses to go on after a step that needs the privileges of a user namespace failed: says why they can
 * be missing and what helps. Uses errno. */
__attribute__((noreturn)) void myst_refuse_no_privilege(const char *step);

/* The same for a step that needs all of the machine's /proc. */
__attribute__((noreturn)) void myst_refuse_masked_proc(const char *step);

#endif
