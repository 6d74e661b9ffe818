/* commands.h - the commands of synfinctl; each one has a file of its name. */
#pragma once
#include "synfinctl/cli.h"

/* The rows of the table in main.c. */
extern const struct cli_command watch_command, list_command, show_command, ladder_command,
	status_command, subscribers_command, replay_command, completion_command, doctor_command,
	report_command;
