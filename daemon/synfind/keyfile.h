/* keyfile.h - the secret that pseudonyms follow from, as the administrator keeps it. */
#pragma once
#include "format/pseudonym.h"

/* The octets of the file @path; NULL: those of the credential of that name that the service manager
 * holds for us.  1: they are there; 0: NULL, and there is none; -errno: logged.  A file that
 * anybody can read, or that is shorter or longer, is refused. */
#define KEYFILE_CREDENTIAL "synfind-pseudonym-key"
int keyfile_read(const char *path, uint8_t ret[static PSEUDONYM_KEY_OCTETS]);
