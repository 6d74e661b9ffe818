/* synfinctl completion: what a shell needs to complete commands, flags and values. */
#include "synfinctl/commands.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void print_words(const char *words)
{
	for (; *words; words++)
		putchar(*words == '|' ? ' ' : *words);
}

/* Text within single quotes of a shell. */
static void print_quoted(const char *s)
{
	putchar('\'');
	for (; *s; s++)
		if (*s == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*s);
	putchar('\'');
}

/* What completes the value of @f; NULL: nothing. */
static const char *values_of(const struct cli_flag *f)
{
	return f->type == CLI_WORD ? f->value : f->complete;
}

static bool is_file(const char *complete)
{
	return complete && !strcmp(complete, "file");
}

/* Calls @flag for each flag of @c, those of every command last. */
static void each_flag(const struct cli_command *c,
		      void (*flag)(const struct cli_command *c, const struct cli_flag *f))
{
	for (const struct cli_group *g = c->groups; g->title; g++)
		for (const struct cli_flag *f = g->flags; f->name; f++)
			flag(c, f);
	for (const struct cli_flag *f = cli_common.flags; f->name; f++)
		flag(c, f);
}

static void bash_name(const struct cli_command *c, const struct cli_flag *f)
{
	(void)c;
	printf(" --%s%s", f->name, f->type == CLI_BOOL ? "" : "=");
}

static void bash_value(const struct cli_command *c, const struct cli_flag *f)
{
	if (!values_of(f))
		return;
	printf("    '%s --%s')", c->name, f->name);
	if (is_file(values_of(f))) {
		printf(" compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\"))");
	} else {
		printf(" COMPREPLY=($(compgen -W '");
		print_words(values_of(f));
		printf("' -- \"$cur\"))");
	}
	printf(" ;;\n");
}

static void bash(void)
{
	printf("# bash completion for synfinctl, made by: synfinctl completion bash\n"
	       "_synfinctl()\n{\n"
	       "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} flag=\n"
	       "  COMPREPLY=()\n"
	       "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	       "    COMPREPLY=($(compgen -W '");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		printf("%s%s", c == cli_commands ? "" : " ", (*c)->name);
	printf("' -- \"$cur\"))\n    return\n  fi\n"
	       "  # --flag=value is three words\n"
	       "  if [ \"$cur\" = = ]; then cur= flag=$prev\n"
	       "  elif [ \"$prev\" = = ]; then flag=${COMP_WORDS[COMP_CWORD-2]}\n"
	       "  elif [ \"${prev:0:2}\" = -- ]; then flag=$prev; fi\n"
	       "  case \"${COMP_WORDS[1]} $flag\" in\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++)
		each_flag(*c, bash_value);
	printf("  esac\n"
	       "  [ ${#COMPREPLY[@]} -eq 0 ] || return\n"
	       "  if [ \"${cur:0:1}\" = - ]; then\n"
	       "    case \"${COMP_WORDS[1]}\" in\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		printf("    %s) COMPREPLY=($(compgen -W '", (*c)->name);
		each_flag(*c, bash_name);
		printf("' -- \"$cur\")) ;;\n");
	}
	printf("    esac\n"
	       "    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace\n"
	       "    return\n  fi\n"
	       "  case \"${COMP_WORDS[1]}\" in\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (is_file((*c)->complete))
			printf("  %s) compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")) "
			       ";;\n",
			       (*c)->name);
		else if ((*c)->complete) {
			printf("  %s) COMPREPLY=($(compgen -W '", (*c)->name);
			print_words((*c)->complete);
			printf("' -- \"$cur\")) ;;\n");
		}
	}
	printf("  esac\n}\ncomplete -F _synfinctl synfinctl\n");
}

/* zsh: _arguments takes '--name=[help]:value:action'. */
static void zsh_flag(const struct cli_command *c, const struct cli_flag *f)
{
	const char *values = values_of(f);
	char spec[1024];
	int n = snprintf(spec, sizeof spec, "--%s%s[", f->name, f->type == CLI_BOOL ? "" : "=");

	(void)c;
	for (const char *s = f->help; *s && n < 700; s++) { /* brackets and colons are syntax */
		if (*s == '[' || *s == ']' || *s == ':')
			spec[n++] = '\\';
		spec[n++] = *s;
	}
	n += snprintf(spec + n, sizeof spec - (size_t)n, "]");
	if (f->type != CLI_BOOL) {
		n += snprintf(spec + n, sizeof spec - (size_t)n, ":%s:", f->name);
		if (is_file(values))
			snprintf(spec + n, sizeof spec - (size_t)n, "_files");
		else if (values) {
			n += snprintf(spec + n, sizeof spec - (size_t)n, "(%s)", values);
			for (char *s = spec + n; *s != '('; s--)
				if (*s == '|')
					*s = ' ';
		} else {
			snprintf(spec + n, sizeof spec - (size_t)n, " ");
		}
	}
	printf(" \\\n        ");
	print_quoted(spec);
}

static void zsh(void)
{
	printf("#compdef synfinctl\n# zsh completion for synfinctl, made by: synfinctl completion "
	       "zsh\n"
	       "_synfinctl() {\n  local -a commands\n  commands=(\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		char line[256];

		snprintf(line, sizeof line, "%s:%s", (*c)->name, (*c)->summary);
		/* the first colon divides */
		for (char *s = line + strlen((*c)->name) + 1; *s; s++)
			if (*s == ':')
				*s = ';';
		printf("    ");
		print_quoted(line);
		printf("\n");
	}
	printf("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  "
	       "fi\n"
	       "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n"
	       "  case $command in\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		printf("    %s)\n      _arguments", (*c)->name);
		each_flag(*c, zsh_flag);
		if ((*c)->complete && is_file((*c)->complete))
			printf(" \\\n        '*:file:_files'");
		else if ((*c)->complete) {
			printf(" \\\n        '*:word:(");
			print_words((*c)->complete);
			printf(")'");
		}
		printf(" ;;\n");
	}
	printf("  esac\n}\n_synfinctl \"$@\"\n");
}

static void fish_flag(const struct cli_command *c, const struct cli_flag *f)
{
	const char *values = values_of(f);

	printf("complete -c synfinctl -n '__fish_seen_subcommand_from %s' -l %s", c->name, f->name);
	if (f->letter)
		printf(" -s %c", f->letter);
	if (f->type != CLI_BOOL)
		printf(is_file(values) ? " -r -F" : " -x");
	if (values && !is_file(values)) {
		printf(" -a '");
		print_words(values);
		printf("'");
	}
	printf(" -d ");
	print_quoted(f->help);
	printf("\n");
}

static void fish(void)
{
	printf("# fish completion for synfinctl, made by: synfinctl completion fish\n"
	       "complete -c synfinctl -f\n");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		printf("complete -c synfinctl -n __fish_use_subcommand -a %s -d ", (*c)->name);
		print_quoted((*c)->summary);
		printf("\n");
		if (is_file((*c)->complete))
			printf("complete -c synfinctl -n '__fish_seen_subcommand_from %s' -F\n",
			       (*c)->name);
		else if ((*c)->complete) {
			printf("complete -c synfinctl -n '__fish_seen_subcommand_from %s' -a '",
			       (*c)->name);
			print_words((*c)->complete);
			printf("'\n");
		}
		each_flag(*c, fish_flag);
	}
}

static int completion_run(const void *options, char **operands)
{
	static const struct shell {
		const char *name;
		void (*print)(void);
	} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };

	(void)options;
	for (unsigned i = 0; i < sizeof shells / sizeof *shells; i++)
		if (!strcmp(shells[i].name, operands[0])) {
			shells[i].print();
			return CLI_FOUND;
		}
	return cli_error(CLI_USAGE, "'%s' is not one of bash, zsh, fish", operands[0]);
}

static const struct cli_group completion_groups[] = { { 0 } };

const struct cli_command completion_command = {
	.name = "completion",
	.operands = "bash|zsh|fish",
	.min_operands = 1,
	.max_operands = 1,
	.complete = "bash|zsh|fish",
	.summary = "Print what a shell needs to complete commands and flags",
	.text = "The package installs it already.\n",
	.examples = "  synfinctl completion bash > /etc/bash_completion.d/synfinctl\n",
	.groups = completion_groups,
	.size = 0,
	.run = completion_run,
};
