/* Variables that the root file system has for the application, in /appenv.json, as Mystikos takes them. */
#ifndef MYST_APP_ENVIRONMENT_H
#define MYST_APP_ENVIRONMENT_H

/* Returns `environment` with what the file in the working directory says, {"Env": ["NAME=value", ...]}: its variables
 * come at the end; PATH and LD_LIBRARY_PATH are joined to those that are there unless that is the first variable.
 * Without the file it is `environment`. A file of another form is refused. */
char **myst_add_app_environment(char **environment);

#endif
