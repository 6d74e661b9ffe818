#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/undo.h"
#include "tests/support/rand.h"
#include "tests/support/tap.h"

enum { SIZE = 512, LOG = 4096 };

struct world { /* what a process would map */
	unsigned char mem[SIZE];
	CACHE_ALIGNED unsigned char log[LOG];
};

static struct world w;

static struct undo fresh(size_t log_octets)
{
	struct undo u;

	memset(&w, 0, sizeof w);
	for (unsigned i = 0; i < SIZE; i++)
		w.mem[i] = (unsigned char)i;
	undo_init(&u, w.mem, SIZE, w.log, log_octets);
	return u;
}

static void set(struct undo *u, unsigned at, size_t n, int value)
{
	undo_save(u, w.mem + at, n);
	memset(w.mem + at, value, n);
}

static bool untouched(void)
{
	for (unsigned i = 0; i < SIZE; i++)
		if (w.mem[i] != (unsigned char)i)
			return false;
	return true;
}

static void test_basics(void)
{
	struct undo u = fresh(LOG);

	ok(!undo_is_open(&u) && undo_rollback(&u) == 0 && untouched(),
	   "a log of zeroes is committed, and rolling it back changes nothing");
	set(&u, 10, 4, 0xaa);
	ok(undo_is_open(&u) && undo_rollback(&u) == 0 && untouched() && !undo_is_open(&u),
	   "what was saved comes back");
	set(&u, 10, 4, 0xaa);
	undo_commit(&u);
	ok(!undo_is_open(&u) && undo_rollback(&u) == 0 && w.mem[10] == 0xaa && w.mem[14] == 14,
	   "what was committed stays");

	u = fresh(LOG);
	set(&u, 20, 8, 1);
	set(&u, 24, 8, 2);
	set(&u, 20, 1, 3);
	undo_rollback(&u);
	ok(untouched(),
	   "octets saved several times come back as they were first: newest goes first");

	set(&u, 0, SIZE, 7);
	ok(undo_rollback(&u) == 0 && untouched(), "all of the memory may be saved at once");
	set(&u, 30, 0, 0);
	ok(undo_rollback(&u) == 0 && untouched(), "nothing may be saved as well");

	undo_save(NULL, w.mem, 4);
	undo_commit(NULL);
	ok(!undo_is_open(NULL) && undo_rollback(NULL) == 0,
	   "without an undo log nothing is saved, committed or rolled back");
}

/* The next process has the memory elsewhere. */
static void test_moved(void)
{
	static struct world other;
	struct undo u = fresh(LOG), v;

	set(&u, 100, 20, 0);
	other = w;
	undo_init(&v, other.mem, SIZE, other.log, LOG);
	ok(undo_is_open(&v) && undo_rollback(&v) == 0 && other.mem[100] == 100 &&
		   other.mem[119] == 119 && w.mem[100] == 0,
	   "another process rolls back where it has mapped the memory");
}

static void test_overflow(void)
{
	size_t room = sizeof(struct undo_log) + 2 * UNDO_COST(16);
	struct undo u = fresh(room);

	set(&u, 0, 16, 1);
	set(&u, 16, 16, 1);
	ok(undo_rollback(&u) == 0 && untouched(),
	   "a log takes what it was planned for, to the octet");
	set(&u, 0, 16, 1);
	set(&u, 16, 17, 1);
	ok(undo_rollback(&u) == -ENOSPC && undo_rollback(&u) == -ENOSPC,
	   "one octet more, and it cannot be rolled back, and says so each time");
	set(&u, 40, 1, 1);
	ok(undo_rollback(&u) == -ENOSPC, "a small record after the overflow does not hide it");
	for (unsigned i = 0; i < LOG - room; i++)
		if (w.log[room + i]) {
			ok(false, "nothing is written after the log");
			return;
		}
	undo_commit(&u);
	u = (struct undo){ 0 };
	undo_init(&u, w.mem, SIZE, w.log, room);
	set(&u, 0, 16, 9);
	ok(undo_rollback(&u) == 0 && w.mem[0] == 1, "after the commit it works again");
}

static void test_refused(void)
{
	struct undo u = fresh(LOG);
	struct undo_log *l = (struct undo_log *)w.log;
	struct undo_record r = { .offset = SIZE - 3, .n = 4 };

	l->used = LOG;
	ok(undo_rollback(&u) == -EBADMSG, "more records than room are refused");
	l->used = 4;
	ok(undo_rollback(&u) == -EBADMSG, "less than a record is refused");
	memcpy(l->records + 4, &r, sizeof r);
	l->used = UNDO_COST(4);
	ok(undo_rollback(&u) == -EBADMSG, "a record that reaches beyond the memory is refused");
	r = (struct undo_record){ .offset = (UINT64_C(1) << 44) - 1, .n = 4 };
	memcpy(l->records + 4, &r, sizeof r);
	ok(undo_rollback(&u) == -EBADMSG, "so is one that begins there");
	r = (struct undo_record){ .offset = 0, .n = 5 };
	memcpy(l->records + 4, &r, sizeof r);
	ok(undo_rollback(&u) == -EBADMSG && untouched(), "and one that begins before the log");
}

/* Against a copy of all that is there at each commit. */
static void test_random(void)
{
	unsigned char committed[SIZE];
	unsigned wrong = 0, rolled = 0;
	struct undo u = fresh(LOG);

	memcpy(committed, w.mem, SIZE);
	for (unsigned i = 0; i < 200000; i++) {
		switch (below(8)) {
		case 0:
			undo_commit(&u);
			memcpy(committed, w.mem, SIZE);
			break;
		case 1:
			rolled += undo_is_open(&u);
			if (undo_rollback(&u) == -ENOSPC) {
				memcpy(w.mem, committed, SIZE);
				undo_commit(&u);
			}
			wrong += memcmp(w.mem, committed, SIZE) != 0;
			break;
		default: {
			unsigned at = below(SIZE);

			set(&u, at, below(below(20) ? 16 : SIZE - at + 1) % (SIZE - at + 1),
			    (int)below(256));
		}
		}
	}
	ok(!wrong && rolled > 1000,
	   "any series of changes, commits and rollbacks is as it should be");
}

/* A process that changes and commits for ever, in memory that it shares with us. */
_Noreturn static void change_for_ever(struct world *m, bool rolling)
{
	struct undo u;

	undo_init(&u, m->mem, SIZE, m->log, LOG);
	for (;;) {
		undo_rollback(&u);
		for (unsigned k = 0; k < 8; k++) {
			unsigned at = k * 64 + below(32);

			/* the same number in all places, or the transaction is not done */
			uint64_t n;

			memcpy(&n, m->mem + k * 64, sizeof n);
			n++;
			undo_save(&u, m->mem + k * 64, 64);
			memset(m->mem + at, (int)n, 32);
			memcpy(m->mem + k * 64, &n, sizeof n);
		}
		if (!rolling || below(2))
			undo_commit(&u);
	}
}

static bool all_agree(const struct world *m)
{
	for (unsigned k = 1; k < 8; k++)
		if (memcmp(m->mem, m->mem + k * 64, 8) != 0)
			return false;
	return true;
}

/* Ends it by SIGKILL after a number of single instructions, so between any two of them. */
static void test_killed(void)
{
	struct world *m =
		mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned wrong = 0, open = 0, kills = 100;
	uint64_t before = 0, now = 0;
	struct undo u;

	undo_init(&u, m->mem, SIZE, m->log, LOG);
	for (unsigned i = 0; i < kills; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			raise(SIGSTOP);
			change_for_ever(m, i & 1);
		}
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
			tap_skip("a process that is killed at any instruction", "no ptrace");
			return;
		}
		for (unsigned n = 1 + below(2000); n; n--) {
			ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
			waitpid(pid, &status, 0);
		}
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		open += undo_is_open(&u);
		wrong += undo_rollback(&u) != 0 || !all_agree(m);
		memcpy(&now, m->mem, sizeof now);
		wrong += now < before; /* what was committed once stays */
		before = now;
	}
	printf("# killed in a transaction %u times of %u; %llu were committed\n", open, kills,
	       (unsigned long long)now);
	ok(!wrong && open > kills / 4,
	   "killed at any instruction, a transaction has happened completely or not at all");
	munmap(m, sizeof *m);
}

int main(void)
{
	rng = tap_seed(1);
	test_basics();
	test_moved();
	test_overflow();
	test_refused();
	test_random();
	test_killed();
	return tap_done();
}
