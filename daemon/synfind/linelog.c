#include "synfind/linelog.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LINE_MIN = 128 /* no line is shorter, so there are never more marks than this allows */ };

static uint64_t power_of_two(uint64_t n)
{
	uint64_t p = 1 << 16;

	while (p < n)
		p <<= 1;
	return p;
}

/* Maps the same @size octets twice in a row. */
static char *map_twice(uint64_t size)
{
	int fd = memfd_create("synfind-lines", MFD_CLOEXEC);
	char *base = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)size) < 0)
		goto out;
	base = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		goto out;
	for (unsigned i = 0; i < 2; i++) {
		void *p = mmap(base + i * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			       fd, 0);

		if (p == MAP_FAILED) {
			munmap(base, 2 * size);
			base = MAP_FAILED;
			break;
		}
	}
out:
	close(fd);
	return base == MAP_FAILED ? NULL : base;
}

int linelog_init(struct linelog *l, uint64_t size)
{
	*l = (struct linelog){ .size = power_of_two(size) };
	uint64_t marks = l->size / LINE_MIN;
	void *m = mmap(NULL, marks * sizeof *l->marks, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	l->mark_mask = marks - 1;
	l->marks = m == MAP_FAILED ? NULL : m;
	l->base = map_twice(l->size);
	if (l->base && l->marks)
		return 0;
	linelog_destroy(l);
	return -ENOMEM;
}

void linelog_destroy(struct linelog *l)
{
	if (l->base)
		munmap(l->base, 2 * l->size);
	if (l->marks)
		munmap(l->marks, (l->mark_mask + 1) * sizeof *l->marks);
	*l = (struct linelog){ 0 };
}

char *linelog_reserve(struct linelog *l, size_t n)
{
	while (l->mark_first != l->mark_next && l->head + n - linelog_oldest(l) > l->size)
		l->mark_first++;
	return l->base + (l->head & (l->size - 1));
}

void linelog_commit(struct linelog *l, size_t n, uint64_t seq)
{
	if (l->mark_next - l->mark_first > l->mark_mask)
		l->mark_first++;
	l->marks[l->mark_next++ & l->mark_mask] = (struct linelog_mark){ l->head, seq };
	l->head += n;
}

uint64_t linelog_line_at(const struct linelog *l, uint64_t at)
{
	uint64_t lo = l->mark_first, hi = l->mark_next;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (l->marks[mid & l->mark_mask].at < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct linelog_mark linelog_mark(const struct linelog *l, uint64_t i, uint64_t seq_now)
{
	if (i == l->mark_next)
		return (struct linelog_mark){ l->head, seq_now };
	return l->marks[i & l->mark_mask];
}
