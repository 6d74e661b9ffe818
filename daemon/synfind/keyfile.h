/* keyfile.h - the secret key of the pseudonyms, from the administrator's file. */
#pragma once
#include "format/pseudonym.h"

/* Reads the key from the file @path; NULL: from the service manager's credential of the name below.
 * 1: @ret is filled; 0: @path is NULL and there is no credential; -errno: logged.  Refuses a file
 * that others can read, or of another size. */
#define KEYFILE_CREDENTIAL "synfind-pseudonym-key"
int keyfile_read(const char *path, uint8_t ret[static PSEUDONYM_KEY_OCTETS]);
