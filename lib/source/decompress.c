#include "source/decompress.h"
#include <errno.h>
#include <lzma.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include "base/cc.h"

enum { XZ_MEMORY = 256 << 20 };

struct decompress {
	const struct format *format; /* NULL: not packed */
	union {
		z_stream gzip;
		lzma_stream xz;
		ZSTD_DStream *zstd;
	};
	int fd;
	bool begun;	/* `format` is known */
	bool eof;	/* of the file */
	bool complete;	/* at the end of a member: the file may end here */
	bool filled;	/* the last call filled its buffer: more may be waiting */
	int failed;	/* -errno, sticky */
	uint64_t taken; /* octets read from the file */
	const uint8_t *p;
	size_t left; /* octets at p, not yet unpacked */
	char error[128];
	uint8_t in[1 << 16];
};

/* One of the libraries. */
struct format {
	const char *name;
	uint8_t magic[DECOMPRESS_MAGIC];
	size_t magic_octets;
	bool (*init)(struct decompress *);
	/* Unpacks from p to @out and returns the octets written.  Sets `complete`; sets *@ret_error
	 * if the data is corrupt. */
	size_t (*step)(struct decompress *, uint8_t *out, size_t n, const char **ret_error);
	void (*end)(struct decompress *);
};

static bool gzip_init(struct decompress *d)
{
	return inflateInit2(&d->gzip, 16 + MAX_WBITS) == Z_OK; /* 16: with a gzip header */
}

static size_t gzip_step(struct decompress *d, uint8_t *out, size_t n, const char **ret_error)
{
	z_stream *z = &d->gzip;

	z->next_in = (uint8_t *)d->p;
	z->avail_in = (unsigned)d->left;
	z->next_out = out;
	z->avail_out = (unsigned)n;

	int r = inflate(z, Z_NO_FLUSH);

	d->complete = r == Z_STREAM_END;
	d->p = z->next_in;
	d->left = z->avail_in;
	n -= z->avail_out;
	if (d->complete)
		inflateReset(z); /* another member may follow */
	else if (r != Z_OK && r != Z_BUF_ERROR)
		*ret_error = z->msg ?: zError(r);
	return n;
}

static void gzip_end(struct decompress *d)
{
	inflateEnd(&d->gzip);
}

static bool xz_init(struct decompress *d)
{
	d->xz = (lzma_stream)LZMA_STREAM_INIT;
	return lzma_stream_decoder(&d->xz, XZ_MEMORY, LZMA_CONCATENATED) == LZMA_OK;
}

static size_t xz_step(struct decompress *d, uint8_t *out, size_t n, const char **ret_error)
{
	lzma_stream *x = &d->xz;

	x->next_in = d->p;
	x->avail_in = d->left;
	x->next_out = out;
	x->avail_out = n;

	lzma_ret r = lzma_code(x, d->eof ? LZMA_FINISH : LZMA_RUN);

	d->complete = r == LZMA_STREAM_END;
	d->p = x->next_in;
	d->left = x->avail_in;
	if (r == LZMA_MEMLIMIT_ERROR || r == LZMA_MEM_ERROR)
		*ret_error = "it needs too much memory";
	else if (r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR)
		*ret_error = r == LZMA_OPTIONS_ERROR ? "an unknown option" : "wrong data";
	return n - x->avail_out;
}

static void xz_end(struct decompress *d)
{
	lzma_end(&d->xz);
}

static bool zstd_init(struct decompress *d)
{
	return (d->zstd = ZSTD_createDStream());
}

static size_t zstd_step(struct decompress *d, uint8_t *out, size_t n, const char **ret_error)
{
	ZSTD_inBuffer in = { d->p, d->left, 0 };
	ZSTD_outBuffer to = { out, n, 0 };
	size_t r = ZSTD_decompressStream(d->zstd, &to, &in);

	d->p += in.pos;
	d->left -= in.pos;
	d->complete = r == 0;
	if (ZSTD_isError(r))
		*ret_error = ZSTD_getErrorName(r);
	return to.pos;
}

static void zstd_end(struct decompress *d)
{
	ZSTD_freeDStream(d->zstd);
}

static const struct format formats[] = {
	{ "gzip", { 0x1f, 0x8b, 8 }, 3, gzip_init, gzip_step, gzip_end },
	{ "xz", { 0xfd, '7', 'z', 'X' }, 4, xz_init, xz_step, xz_end },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, zstd_init, zstd_step, zstd_end },
};

static const struct format *format_of(const uint8_t *magic)
{
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (!memcmp(magic, formats[i].magic, formats[i].magic_octets))
			return &formats[i];
	return NULL;
}

bool decompress_knows(const uint8_t magic[static DECOMPRESS_MAGIC])
{
	return format_of(magic);
}

struct decompress *decompress_new(int fd)
{
	struct decompress *d = calloc(1, sizeof *d);

	if (d) {
		d->fd = fd;
		d->p = d->in;
	}
	return d;
}

/* Octets, 0 at the end, or -errno. */
static ssize_t read_file(struct decompress *d, void *buf, size_t n)
{
	ssize_t r;

	/* EAGAIN: another process set O_NONBLOCK on a shared stdin. */
	while ((r = read(d->fd, buf, n)) < 0 && errno == EAGAIN &&
	       poll(&(struct pollfd){ d->fd, POLLIN, 0 }, 1, -1) >= 0)
		;
	if (r < 0)
		return -errno;
	d->taken += (uint64_t)r;
	d->eof = !r;
	return r;
}

/* Reads until the first octets show what the file is.  0 or -errno. */
static int begin(struct decompress *d)
{
	while (d->left < DECOMPRESS_MAGIC && !d->eof) {
		ssize_t r = read_file(d, d->in + d->left, sizeof d->in - d->left);

		if (r < 0)
			return (int)r;
		d->left += (size_t)r;
	}

	const struct format *format = d->left < DECOMPRESS_MAGIC ? NULL : format_of(d->in);

	if (format && !format->init(d))
		return -ENOMEM;
	d->format = format;
	d->begun = true;
	return 0;
}

/* What is not packed passes through. */
static ssize_t read_plain(struct decompress *d, uint8_t *buf, size_t n)
{
	if (!d->left)
		return d->eof ? 0 : read_file(d, buf, n);
	n = n < d->left ? n : d->left;
	memcpy(buf, d->p, n);
	d->p += n;
	d->left -= n;
	return (ssize_t)n;
}

ssize_t decompress_read(struct decompress *d, uint8_t *buf, size_t n)
{
	const char *error = NULL;
	int r = d->begun ? 0 : begin(d);

	if (r < 0)
		return r;
	if (!d->format)
		return read_plain(d, buf, n);
	while (!d->failed) {
		if (!d->left && !d->eof && (d->complete || !d->filled)) {
			ssize_t got = read_file(d, d->in, sizeof d->in);

			if (got < 0)
				return got;
			d->p = d->in;
			d->left = (size_t)got;
		}
		if (!d->left && d->eof && d->complete)
			return 0;

		bool ended = !d->left && d->eof;
		size_t made = d->format->step(d, buf, n, &error);

		d->filled = made == n;
		if (error)
			snprintf(d->error, sizeof d->error, "corrupt %s data near byte %llu: %s",
				 d->format->name, (unsigned long long)decompress_offset(d), error);
		else if (ended && !made && !d->complete)
			snprintf(d->error, sizeof d->error,
				 "truncated: the %s data ends at byte %llu", d->format->name,
				 (unsigned long long)d->taken);
		if (*d->error)
			d->failed = -EBADMSG;
		if (made)
			return (ssize_t)made;
	}
	return d->failed;
}

bool decompress_packed(const struct decompress *d)
{
	return d && d->format;
}

uint64_t decompress_offset(const struct decompress *d)
{
	return d->taken - d->left;
}

const char *decompress_error(const struct decompress *d)
{
	return d->error;
}

void decompress_free(struct decompress *d)
{
	if (d && d->format)
		d->format->end(d);
	free(d);
}
