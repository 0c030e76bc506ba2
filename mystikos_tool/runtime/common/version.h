#ifndef MYST_VERSION_H
#define MYST_VERSION_H

#define MYST_VERSION "0.1.0"

#endif
