/*
 * The root: that of the kernel's command line (root=), or the initramfs. Either may be covered, so that what is written to it goes
 * elsewhere: to memory (rootoverlay), or to a disk (rootdisk=).
 */
#include "init.h"

#include <asm/statfs.h>
#include <linux/magic.h>

enum {
  DISK_WAIT_MS = 5000,     /* for a disk to appear */
  FULL_BYTES = 64 * 1024,  /* with less than this, a root is full */
  READ_ONLY = 1,           /* ST_RDONLY, of statfs(2) */
  VALUE_BYTES = 256,       /* as long as parameter() has them */
};

static const char NEW_ROOT[] = "/newroot";
static const char LOWER[] = "/lower";
static const char COVER[] = "/cover";

int root_is_covered;

/* The value of a parameter, to stay; 0 if it is absent or empty. */
static const char *value_of(const char *name, char value[VALUE_BYTES]) {
  char *text = parameter(name);
  if (!text || !*text) return 0;
  memcpy(value, text, length(text) + 1);
  return value;
}

/* Mounts a disk, which may take its time to appear. `types` ends with 0: the first that the disk has. */
static long mount_disk(const char *source, const char *at, const char *const *types, long flags, const char *data) {
  for (int waited = 0;; waited += 20) {
    long result = -ENODEV;
    for (int i = 0; types[i]; i++) {
      result = mount_on(source, at, types[i], flags, data);
      if (result != -EINVAL && result != -ENODEV) break; /* EINVAL: another file system's disk */
    }
    if ((result != -ENOENT && result != -ENXIO) || waited >= DISK_WAIT_MS) return result;
    sleep_ms(20);
  }
}

static long say_problem(const char *name, const char *source, long result) {
  SAY("cannot mount ", name, source,
      result == -ENOENT ? ": no such device (is the disk attached?)" : ": no file system that this kernel reads");
  return result;
}

/* Mounts root= at /newroot. */
static long mount_root(const char *source, long flags) {
  static char data_value[VALUE_BYTES], type_value[VALUE_BYTES];
  const char *data = value_of("rootflags=", data_value), *type = value_of("rootfstype=", type_value);
  const char *types[] = {"ext4", "erofs", 0};
  /* ramfs is what a kernel is told to unpack the initramfs into. */
  if (type && !equal(type, "ramfs")) types[0] = type, types[1] = 0;
  long result = mount_disk(source, NEW_ROOT, types, flags, data);
  if (result == -EROFS || result == -EACCES) result = mount_disk(source, NEW_ROOT, types, flags | MS_RDONLY, data);
  return result < 0 ? say_problem("root=", source, result) : result;
}

/*
 * Makes a root of two at /newroot: what is there, or else all that is here, is only read; what is written goes to `disk`, or to memory if
 * there is none.
 */
static long cover_root(int mounted, const char *disk) {
  static const char *const ext4[] = {"ext4", 0};
  long result = mounted ? mount_on(NEW_ROOT, LOWER, 0, MS_MOVE, 0) : 0;
  if (result >= 0 && disk) {
    /* Its inode tables are holes: that they are zeroes need not be written. */
    result = mount_disk(disk, COVER, ext4, 0, "noinit_itable");
    if (result < 0) return say_problem("rootdisk=", disk, result);
  } else if (result >= 0) {
    result = mount_on("tmpfs", COVER, "tmpfs", 0, "mode=755");
  }
  if (result >= 0) {
    SYS2(mkdir, "/cover/upper", 0755);
    SYS2(mkdir, "/cover/work", 0755);
    result = mount_on("overlay", NEW_ROOT, "overlay", 0,
                      mounted ? "lowerdir=/lower,upperdir=/cover/upper,workdir=/cover/work"
                              : "lowerdir=/,upperdir=/cover/upper,workdir=/cover/work");
  }
  if (result < 0) SAY("cannot lay an overlay over the root");
  root_is_covered = result >= 0;
  return result;
}

/* What programs expect beside /dev, /proc and /sys. */
static void mount_rest(void) {
  mount_on("devpts", "/dev/pts", "devpts", 0, DEVPTS_OPTIONS);
  mount_on("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  mount_on("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
  mount_on("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
}

/* Makes /newroot the root. */
static void move_in(void) {
  static const char *const moved[] = {"/dev", "/proc", "/sys", 0};
  static char target[] = "/newroot/xxxxx";
  for (int i = 0; moved[i]; i++) {
    memcpy(target + 8, moved[i], length(moved[i]) + 1);
    if (mount_on(moved[i], target, 0, MS_MOVE, 0) < 0) SAY("the root image has no ", moved[i]);
  }
  SYS1(chdir, NEW_ROOT);
  SYS5(mount, ".", "/", 0, MS_MOVE, 0);
  SYS1(chroot, ".");
  SYS1(chdir, "/");
}

/* The type of the file system that init starts from. */
static long first_type(void) {
  struct statfs found;
  return SYS2(statfs, "/", &found) == 0 ? found.f_type : TMPFS_MAGIC;
}

int root_waits(void) {
  return parameter("rootdisk=") != 0;
}

int enter_root(void) {
  static char root_value[VALUE_BYTES], disk_value[VALUE_BYTES];
  const char *root = value_of("root=", root_value), *disk = value_of("rootdisk=", disk_value);
  long type = first_type();
  if (root && type != RAMFS_MAGIC && type != TMPFS_MAGIC) { /* the kernel mounted it, since it had no initramfs */
    mount_rest();
    return 0;
  }
  int covered = disk || (root ? flag("rootoverlay") : type == RAMFS_MAGIC);
  if (!root && !covered) return 0;
  if (root && mount_root(root, covered || flag("ro") ? MS_RDONLY : 0) < 0) return -1;
  if (covered && cover_root(root != 0, disk) < 0) return -1;
  move_in();
  if (root) {
    mount_rest();
    return 1;
  }
  /* Places to mount, which the initramfs shows through. */
  SYS1(rmdir, NEW_ROOT);
  SYS1(rmdir, COVER);
  return 0;
}

int enter_late_root(void) {
  if (enter_root() < 0) return -1;
  write_resolv_conf();
  shorten_search();
  return 0;
}

void mark_full_root(void) {
  struct statfs found;
  if (SYS2(statfs, "/", &found) < 0 || !found.f_blocks || found.f_flags & READ_ONLY) return;
  int no_blocks = (ulong)found.f_bavail * (ulong)found.f_bsize < FULL_BYTES;
  if (no_blocks || (found.f_files && !found.f_ffree)) out(PORT_MARK, MARK_FULL);
}
