/* Removes a directory of the host with all that is in it. */
#ifndef MYST_REMOVE_H
#define MYST_REMOVE_H

/* Follows no link, whoever changes the directory meanwhile, and takes no more descriptors or stack however deep it is.
 * What cannot be removed stays. */
void myst_remove_directory(const char *path);

#endif
