/* Owners, modes, groups; what falls of them, and who may do what. */
#include "check.h"

#include <sys/mman.h>

CHECK(mode, set) {
  file("f", 0644);
  tell("chmod", chmod("f", 0751));
  mode_of("f");
}

CHECK(mode, setid) {
  file("f", 0644);
  tell("chmod", chmod("f", 06755));
  mode_of("f");
  tell("sticky", chmod("f", 01644));
  mode_of("f");
}

CHECK(mode, setid_of_directory) {
  need(mkdir("d", 0755));
  tell("chmod", chmod("d", 07755));
  mode_of("d");
}

CHECK(mode, by_others) {
  file("f", 0644);
  need(chown("f", OWNER, STAFF));
  AS(OTHER, STAFF, 0) tell("other", chmod("f", 0600));
  AS(OWNER, OWNER, 0) tell("owner", chmod("f", 0640));
  mode_of("f");
}

/* A setuid and setgid file of OWNER's that everybody may write. */
static void setid(const char *name) {
  file(name, 0644);
  need(chown(name, OWNER, STAFF));
  need(chmod(name, 06777));
}

/* Runs a block as OTHER on the setid file `f`, and says its mode afterwards. */
#define ON_SETID            \
  setid("f");               \
  mode_of("f");             \
  AS(OTHER, OTHER, 0)

CHECK(setid, falls_at_write) {
  ON_SETID need(write(opened("f", O_WRONLY), "J", 1));
  mode_of("f");
}

CHECK(setid, falls_at_truncate) {
  ON_SETID need(truncate("f", 2));
  mode_of("f");
}

CHECK(setid, falls_at_ftruncate) {
  ON_SETID need(ftruncate(opened("f", O_WRONLY), 2));
  mode_of("f");
}

CHECK(setid, falls_at_open_truncating) {
  ON_SETID opened("f", O_WRONLY | O_TRUNC);
  mode_of("f");
}

CHECK(setid, falls_at_fallocate) {
  ON_SETID tell("fallocate", fallocate(opened("f", O_WRONLY), 0, 0, 100));
  mode_of("f");
}

CHECK(setid, falls_at_punch) {
  ON_SETID tell("fallocate", fallocate(opened("f", O_WRONLY), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2));
  mode_of("f");
}

CHECK(setid, falls_at_mapped_write) {
  ON_SETID {
    char *page = mapped(opened("f", O_RDWR), 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    page[0] = 'J';
    msync(page, 4096, MS_SYNC);
  }
  mode_of("f");
}

CHECK(setid, falls_at_direct_write) {
  static char block[4096] __attribute__((aligned(4096)));
  ON_SETID tell("write", write(opened("f", O_WRONLY | O_DIRECT), block, sizeof block));
  mode_of("f");
}

CHECK(setid, falls_at_copy_file_range) {
  file("source", 0644);
  ON_SETID tell("copy", copy_file_range(opened("source", O_RDONLY), NULL, opened("f", O_WRONLY), NULL, 5, 0));
  mode_of("f");
}

CHECK(setid, falls_at_write_of_owner) {
  setid("f");
  AS(OWNER, OWNER, 0) need(write(opened("f", O_WRONLY), "J", 1));
  mode_of("f");
}

CHECK(setid, at_write_of_root) {
  setid("f");
  need(write(opened("f", O_WRONLY), "J", 1));
  mode_of("f");
}

CHECK(setid, at_truncate_of_root) {
  setid("f");
  need(truncate("f", 1));
  mode_of("f");
}

CHECK(setid, falls_at_chown) {
  setid("f");
  tell("chown", chown("f", OTHER, PROJECT));
  mode_of("f");
}

CHECK(setid, at_chown_that_changes_nothing) {
  setid("f");
  tell("chown", chown("f", -1, -1));
  mode_of("f");
}

CHECK(setid, group_bit_without_execution) {
  file("f", 0644);
  need(chown("f", OWNER, STAFF));
  need(chmod("f", 02666));
  mode_of("f");
  AS(OTHER, OTHER, 0) need(write(opened("f", O_WRONLY), "J", 1));
  mode_of("f");
}

CHECK(setid, chmod_by_one_outside_of_the_group) {
  file("f", 0644);
  need(chown("f", OWNER, STAFF));
  AS(OWNER, OWNER, 0) tell("chmod", chmod("f", 02755));
  mode_of("f");
  AS(OWNER, OWNER, STAFF) tell("member", chmod("f", 02755));
  mode_of("f");
}

CHECK(setid, made_by_user) {
  AS(OWNER, OWNER, 0) need(open("f", O_CREAT | O_RDWR, 06777));
  mode_of("f");
}

CHECK(setid, stays_at_link_rename_and_times) {
  setid("f");
  need(link("f", "g"));
  need(rename("f", "h"));
  age("h");
  mode_of("g");
}

CHECK(owner, by_root) {
  file("f", 0644);
  tell("chown", chown("f", 1234, 5678));
  owner_of("f");
  tell("largest", chown("f", 4294967294u, 4294967294u));
  owner_of("f");
  tell("user_only", chown("f", 70000, -1));
  tell("group_only", chown("f", -1, 80000));
  owner_of("f");
}

CHECK(owner, by_user) {
  file("f", 0644);
  need(chown("f", OWNER, STAFF));
  AS(OWNER, STAFF, PROJECT) {
    tell("away", chown("f", OTHER, -1));
    tell("own_group", chown("f", -1, PROJECT));
    tell("other_group", chown("f", -1, 3000));
    tell("nothing", chown("f", OWNER, -1));
  }
  owner_of("f");
  AS(OTHER, PROJECT, 0) tell("other", chown("f", -1, PROJECT));
}

CHECK(owner, of_what_is_made) {
  AS(OWNER, STAFF, PROJECT) {
    need(open("f", O_CREAT | O_RDWR, 0644));
    need(mkdir("d", 0755));
    need(symlink("x", "l"));
    need(mknod("n", S_IFREG | 0644, 0));
  }
  owner_of("f");
  owner_of("d");
  owner_of("l");
  owner_of("n");
}

CHECK(owner, of_what_a_large_user_makes) {
  AS(3000000000u, 3000000001u, 0) need(open("f", O_CREAT | O_RDWR, 0644));
  owner_of("f");
}

CHECK(owner, setgid_directory) {
  need(mkdir("d", 0777));
  need(chown("d", 0, PROJECT));
  need(chmod("d", 02777));
  mode_of("d");
  AS(OWNER, STAFF, 0) {
    need(open("d/f", O_CREAT | O_RDWR, 0644));
    need(mkdir("d/d", 0755));
    need(symlink("x", "d/l"));
  }
  owner_of("d/f");
  owner_of("d/d");
  mode_of("d/d");
  owner_of("d/l");
}

CHECK(owner, setgid_file_in_setgid_directory) {
  need(mkdir("d", 0777));
  need(chown("d", 0, PROJECT));
  need(chmod("d", 02777));
  AS(OWNER, STAFF, 0) need(open("d/f", O_CREAT | O_RDWR, 02775));
  AS(OWNER, STAFF, PROJECT) need(open("d/member", O_CREAT | O_RDWR, 02775));
  mode_of("d/f");
  mode_of("d/member");
}

CHECK(owner, mode_0555_directory_of_root) {
  need(mkdir("d", 0555));
  tell("create", open("d/x", O_CREAT | O_RDWR, 0444));
  tell("write", open("d/x", O_WRONLY));
  tell("unlink", unlink("d/x"));
}

/* Says what a user may do with `f`: read, write, execute. */
static void may(const char *who) {
  char rights[4] = "---";
  if (open("f", O_RDONLY) >= 0) rights[0] = 'r';
  if (open("f", O_WRONLY) >= 0) rights[1] = 'w';
  if (access("f", X_OK) == 0) rights[2] = 'x';
  say("%s=%s", who, rights);
}

static void rights_of(mode_t mode) {
  file("f", 0644);
  need(chown("f", OWNER, STAFF));
  need(chmod("f", mode));
  AS(OWNER, STAFF, 0) may("owner");
  AS(OTHER, STAFF, 0) may("group");
  AS(OTHER, OTHER, STAFF) may("supplementary");
  AS(OTHER, OTHER, PROJECT) may("other");
  AS(0, 0, 0) may("root");
}

CHECK(rights, of_0640) { rights_of(0640); }
CHECK(rights, of_0750) { rights_of(0750); }
CHECK(rights, of_0604) { rights_of(0604); }
CHECK(rights, of_0066) { rights_of(0066); }
CHECK(rights, of_0200) { rights_of(0200); }
CHECK(rights, of_0001) { rights_of(0001); }

static void in_directory(const char *who) {
  struct stat found;
  say("%s:", who);
  tell("list", open("d", O_RDONLY));
  tell("look", stat("d/f", &found));
  tell("make", open("d/new", O_CREAT | O_RDWR, 0666));
  unlink("d/new");
}

static void directory_of(mode_t mode) {
  need(mkdir("d", 0755));
  file("d/f", 0644);
  need(chown("d", OWNER, STAFF));
  need(chmod("d", mode));
  AS(OWNER, OWNER, 0) in_directory("owner");
  AS(OTHER, OTHER, STAFF) in_directory("supplementary");
  AS(OTHER, OTHER, 0) in_directory("other");
}

CHECK(rights, of_directory_0750) { directory_of(0750); }
CHECK(rights, of_directory_0374) { directory_of(0374); }
CHECK(rights, of_directory_0117) { directory_of(0117); }

CHECK(rights, supplementary_group_creates) {
  need(mkdir("d", 0755));
  need(chown("d", 0, PROJECT));
  need(chmod("d", 0770));
  AS(OWNER, STAFF, PROJECT) {
    tell("create", open("d/f", O_CREAT | O_RDWR, 0644));
    tell("mkdir", mkdir("d/d", 0755));
    tell("symlink", symlink("x", "d/l"));
    tell("rename", rename("d/f", "d/g"));
    tell("unlink", unlink("d/g"));
    tell("rmdir", rmdir("d/d"));
  }
  owner_of("d/l");
}

CHECK(rights, hidden_below_closed_directory) {
  need(mkdir("d", 0755));
  need(mkdir("d/e", 0777));
  need(chmod("d/e", 0777));
  file("d/e/f", 0666);
  int inside = opened("d/e", O_RDONLY);
  need(chmod("d", 0700));
  AS(OWNER, OWNER, 0) {
    tell("path", open("d/e/f", O_RDONLY));
    tell("from_inside", openat(inside, "f", O_RDONLY));
    tell("create_inside", openat(inside, "g", O_CREAT | O_RDWR, 0644));
  }
}

CHECK(sticky, directory) {
  need(mkdir("t", 0777));
  need(chmod("t", 01777));
  AS(OWNER, OWNER, 0) {
    file("t/a", 0666);
    file("t/b", 0666);
  }
  AS(OTHER, OTHER, 0) {
    file("t/own", 0666);
    tell("unlink", unlink("t/a"));
    tell("rename", rename("t/a", "t/c"));
    tell("over", rename("t/own", "t/a"));
    tell("own", unlink("t/own"));
  }
  AS(OWNER, OWNER, 0) tell("owner", unlink("t/a"));
  tell("root", unlink("t/b"));
}

CHECK(sticky, owner_of_directory) {
  need(mkdir("t", 0755));
  need(chown("t", OWNER, OWNER));
  need(chmod("t", 01777));
  AS(OTHER, OTHER, 0) file("t/f", 0600);
  AS(OWNER, OWNER, 0) tell("unlink", unlink("t/f"));
}

CHECK(access, real_user) {
  file("f", 0600);
  need(setresuid(OWNER, 0, 0));
  tell("real", access("f", R_OK));
  tell("effective", faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
}
