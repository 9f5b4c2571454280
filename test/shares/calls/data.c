/* Bytes: holes, sizes, mappings, copies, allocation, and the limits of offsets. */
#include "check.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <linux/fs.h>

static int fresh(void) { return opened("f", O_CREAT | O_RDWR); }

static void byte_at(int fd, off_t offset) {
  unsigned char byte;
  ssize_t length = pread(fd, &byte, 1, offset);
  if (length == 1) say("byte=%d", byte);
  else tell("byte", length < 0 ? -1 : 0);
}

CHECK(data, past_the_end) {
  int fd = fresh();
  char text[9];
  need(write(fd, "hello", 5));
  value("at", pread(fd, text, sizeof text, 5));
  value("past", pread(fd, text, sizeof text, 1 << 30));
  tell("negative", pread(fd, text, sizeof text, -1));
  value("nothing", pread(fd, text, 0, 0));
}

CHECK(data, hole) {
  int fd = fresh();
  need(pwrite(fd, "x", 1, 100000));
  byte_at(fd, 50000);
  byte_at(fd, 100000);
  value("size", status_of(fd).st_size);
}

CHECK(data, extended_by_truncate) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  tell("shorter", ftruncate(fd, 2));
  tell("longer", ftruncate(fd, 10000));
  byte_at(fd, 3);
  byte_at(fd, 9999);
  tell("negative", ftruncate(fd, -1));
}

CHECK(data, truncate_by_name) {
  file("f", 0644);
  tell("truncate", truncate("f", 2));
  text_of("f");
  need(chmod("f", 0444));
  AS(OWNER, OWNER, 0) tell("user", truncate("f", 0));
  tell("missing", truncate("none", 0));
}

CHECK(data, offset_of_4_gib) {
  int fd = fresh();
  off_t at = (1ll << 32) + 5;
  tell("write", pwrite(fd, "x", 1, at));
  value("size", status_of(fd).st_size);
  byte_at(fd, at);
  byte_at(fd, 5);
}

CHECK(data, offset_of_1_tib) {
  int fd = fresh();
  off_t at = (1ll << 40) + 5;
  tell("write", pwrite(fd, "x", 1, at));
  value("size", status_of(fd).st_size);
  byte_at(fd, at);
}

CHECK(data, offset_of_2_to_the_53) {
  int fd = fresh();
  tell("write", pwrite(fd, "x", 1, 1ll << 53));
  tell("truncate", ftruncate(fd, (1ll << 53) + 1));
  value("read", pread(fd, (char[1]){0}, 1, (1ll << 53) + 1));
}

CHECK(data, largest_offset) {
  int fd = fresh();
  tell("write", pwrite(fd, "x", 1, INT64_MAX));
  tell("one_less", pwrite(fd, "x", 1, INT64_MAX - 1));
  tell("truncate", ftruncate(fd, INT64_MAX));
  tell("fallocate", fallocate(fd, 0, INT64_MAX - 4, 8));
}

CHECK(data, limit_of_size) {
  struct rlimit limit = {1000, 1000};
  int fd = fresh();
  need(setrlimit(RLIMIT_FSIZE, &limit));
  signal(SIGXFSZ, SIG_IGN);
  value("across", pwrite(fd, (char[20]){0}, 20, 990));
  tell("beyond", pwrite(fd, "x", 1, 1000));
  tell("truncate", ftruncate(fd, 1001));
  signal(SIGXFSZ, SIG_DFL);
  BESIDE pwrite(fd, "x", 1, 1000);
}

CHECK(data, seek_data_and_hole) {
  int fd = fresh();
  need(pwrite(fd, "x", 1, 1 << 20));
  need(ftruncate(fd, 2 << 20));
  need(fsync(fd));
  value("data", lseek(fd, 0, SEEK_DATA) >> 12);
  value("hole", lseek(fd, 0, SEEK_HOLE));
  value("hole_after", lseek(fd, 1 << 20, SEEK_HOLE) >> 12);
  tell("no_more", lseek(fd, (1 << 20) + 8192, SEEK_DATA));
  tell("past", lseek(fd, 3 << 20, SEEK_HOLE));
}

CHECK(data, seek_ends) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  value("end", lseek(fd, 0, SEEK_END));
  value("beyond", lseek(fd, 100, SEEK_END));
  tell("negative", lseek(fd, -1, SEEK_SET));
  int other = opened("f", O_WRONLY | O_APPEND);
  need(write(other, "more", 4));
  value("grown", lseek(fd, 0, SEEK_END));
  value("hole", lseek(fd, 0, SEEK_HOLE));
}

CHECK(data, blocks_of_holes) {
  int fd = fresh();
  need(ftruncate(fd, 1 << 20));
  value("none", status_of(fd).st_blocks);
  need(pwrite(fd, "x", 1, 0));
  need(fsync(fd));
  value("some", status_of(fd).st_blocks > 0 && status_of(fd).st_blocks < 64);
}

CHECK(allocate, plain) {
  int fd = fresh();
  tell("fallocate", fallocate(fd, 0, 0, 10000));
  value("size", status_of(fd).st_size);
  value("blocks", status_of(fd).st_blocks >= 20);
  byte_at(fd, 9999);
}

CHECK(allocate, kept_size) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  tell("fallocate", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000));
  value("size", status_of(fd).st_size);
  value("blocks", status_of(fd).st_blocks >= 190);
}

CHECK(allocate, punched) {
  int fd = fresh();
  static char bytes[40960];
  memset(bytes, 'x', sizeof bytes);
  need(write(fd, bytes, sizeof bytes));
  need(fsync(fd));
  long before = status_of(fd).st_blocks;
  tell("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 20480));
  value("size", status_of(fd).st_size);
  byte_at(fd, 4095);
  byte_at(fd, 4096);
  byte_at(fd, 24576);
  value("less", status_of(fd).st_blocks < before);
}

CHECK(allocate, zeroed) {
  int fd = fresh();
  need(write(fd, "hello world", 11));
  tell("zero", fallocate(fd, FALLOC_FL_ZERO_RANGE, 2, 3));
  text_of("f");
  tell("beyond", fallocate(fd, FALLOC_FL_ZERO_RANGE, 8, 100));
  value("size", status_of(fd).st_size);
}

CHECK(allocate, other_modes) {
  int fd = fresh();
  need(ftruncate(fd, 1 << 20));
  tell("collapse", fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
  tell("insert", fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, 4096));
  tell("punch_alone", fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
  tell("unknown", fallocate(fd, 0x4000, 0, 4096));
}

CHECK(allocate, refused) {
  int fd = fresh();
  need(mkdir("d", 0755));
  tell("nothing", fallocate(fd, 0, 0, 0));
  tell("negative", fallocate(fd, 0, -1, 5));
  tell("read_only", fallocate(opened("f", O_RDONLY), 0, 0, 5));
  tell("directory", fallocate(opened("d", O_RDONLY), 0, 0, 5));
}

CHECK(data, copy_file_range) {
  file("source", 0644);
  off_t from = 1, to = 3;
  int in = opened("source", O_RDONLY), out = fresh();
  value("copied", copy_file_range(in, &from, out, &to, 100, 0));
  say("at=%lld,%lld", (long long)from, (long long)to);
  text_of("f");
  value("at_end", copy_file_range(in, &from, out, &to, 100, 0));
  tell("flags", copy_file_range(in, NULL, out, NULL, 5, 1));
}

CHECK(data, copy_file_range_within) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  off_t from = 0, to = 5;
  tell("beside", copy_file_range(fd, &from, fd, &to, 5, 0));
  from = 0, to = 2;
  tell("overlapping", copy_file_range(fd, &from, fd, &to, 5, 0));
  text_of("f");
}

CHECK(data, copy_file_range_after_mapped_write) {
  int in = opened("source", O_CREAT | O_RDWR), out = fresh();
  need(write(in, "hello", 5));
  char *page = mapped(in, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  page[0] = 'J';
  off_t from = 0;
  value("copied", copy_file_range(in, &from, out, NULL, 5, 0));
  text_of("f");
}

CHECK(data, sendfile_and_splice) {
  file("source", 0644);
  int in = opened("source", O_RDONLY), out = fresh(), pipes[2];
  value("sent", sendfile(out, in, &(off_t){0}, 5));
  need(pipe(pipes));
  value("in", splice(in, &(off_t){1}, pipes[1], NULL, 4, 0));
  value("out", splice(pipes[0], NULL, out, NULL, 4, 0));
  text_of("f");
}

CHECK(data, clone) {
  file("source", 0644);
  tell("clone", ioctl(fresh(), FICLONE, opened("source", O_RDONLY)));
}

CHECK(data, vectors) {
  int fd = fresh();
  char a[2], b[9];
  struct iovec out[] = {{"he", 2}, {"", 0}, {"llo", 3}}, in[] = {{a, 2}, {b, 9}};
  value("written", pwritev(fd, out, 3, 1));
  value("read", preadv(fd, in, 2, 0));
  value("append", pwritev2(fd, out, 3, 0, RWF_APPEND));
  value("sync", pwritev2(fd, out, 1, 0, RWF_DSYNC));
  text_of("f");
}

CHECK(data, large) {
  enum { BYTES = (1 << 20) + 4097 };
  char *bytes = malloc(BYTES), *read = calloc(1, BYTES);
  for (int i = 0; i < BYTES; i++) bytes[i] = (char)(i * 31 + i / 4096);
  int fd = fresh();
  value("written", pwrite(fd, bytes, BYTES, 3));
  value("read", pread(fd, read, BYTES, 3));
  value("same", memcmp(bytes, read, BYTES) == 0);
  close(fd);
  fd = opened("f", O_RDONLY | O_DIRECT);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  fd = opened("f", O_RDONLY);
  memset(read, 0, BYTES);
  value("again", pread(fd, read, BYTES, 3));
  value("same", memcmp(bytes, read, BYTES) == 0);
}

CHECK(data, two_descriptors) {
  int a = fresh(), b = opened("f", O_RDWR);
  char text[9] = "";
  need(write(a, "hello", 5));
  need(pread(b, text, 5, 0));
  say("text=%s", text);
  need(pwrite(b, "J", 1, 0));
  need(ftruncate(b, 3));
  value("read", pread(a, text, 5, 0));
  say("text=%.3s", text);
}

CHECK(data, flushed) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  tell("fsync", fsync(fd));
  tell("fdatasync", fdatasync(fd));
  tell("range", sync_file_range(fd, 0, 5, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  tell("syncfs", syncfs(fd));
  tell("read_only", fsync(opened("f", O_RDONLY)));
  tell("directory", fsync(opened(".", O_RDONLY)));
  tell("advice", posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1);
  tell("readahead", readahead(fd, 0, 5));
}

CHECK(mapping, shared) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  page[0] = 'J';
  char text[9] = "";
  need(pread(fd, text, 5, 0));
  say("read=%s", text);
  need(pwrite(fd, "!", 1, 4));
  say("mapped=%.5s", page);
  tell("msync", msync(page, 4096, MS_SYNC));
  munmap(page, 4096);
  text_of("f");
}

CHECK(mapping, shared_by_processes) {
  int fd = fresh();
  need(ftruncate(fd, 8192));
  char *pages = mapped(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  BESIDE {
    char *others = mapped(opened("f", O_RDWR), 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
    others[5000] = 'x';
  }
  say("seen=%c", pages[5000]);
  byte_at(fd, 5000);
}

CHECK(mapping, private) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  page[0] = 'J';
  text_of("f");
}

CHECK(mapping, of_read_only_descriptor) {
  file("f", 0644);
  int fd = opened("f", O_RDONLY);
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  tell("writable", page == MAP_FAILED ? -1 : 0);
  page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  tell("readable", page == MAP_FAILED ? -1 : 0);
}

CHECK(mapping, past_the_end) {
  int fd = fresh();
  need(ftruncate(fd, 100));
  char *pages = mapped(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  value("rest", pages[4095]);
  BESIDE pages[4096] = 1;
  pages[200] = 'x';
  need(msync(pages, 4096, MS_SYNC));
  value("size", status_of(fd).st_size);
}

CHECK(mapping, after_truncate) {
  int fd = fresh();
  need(ftruncate(fd, 8192));
  char *pages = mapped(fd, 8192, PROT_READ | PROT_WRITE, MAP_SHARED);
  pages[5000] = 'x';
  need(ftruncate(fd, 100));
  BESIDE pages[5000] = 1;
  need(ftruncate(fd, 8192));
  value("zero", pages[5000]);
}

CHECK(mapping, of_unlinked_file) {
  int fd = fresh();
  need(ftruncate(fd, 4096));
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  need(unlink("f"));
  page[7] = 'x';
  tell("msync", msync(page, 4096, MS_SYNC));
  byte_at(fd, 7);
}

CHECK(mapping, after_close) {
  int fd = fresh();
  need(write(fd, "hello", 5));
  char *page = mapped(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
  close(fd);
  page[0] = 'J';
  munmap(page, 4096);
  text_of("f");
}

CHECK(system, statfs) {
  struct statfs found;
  need(statfs(".", &found));
  say("name=%ld block=%d order=%d files=%d", (long)found.f_namelen, found.f_bsize >= 512,
      found.f_bavail <= found.f_bfree && found.f_bfree <= found.f_blocks && found.f_blocks > 0,
      found.f_ffree <= found.f_files && found.f_files > 0);
}

CHECK(system, block_size) {
  file("f", 0644);
  value("power", (status("f").st_blksize & (status("f").st_blksize - 1)) == 0 && status("f").st_blksize >= 512);
}
