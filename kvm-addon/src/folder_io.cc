#include "folder_io.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "addon_data.h"
#include "arguments.h"
#include "caller.h"
#include "folder_descriptors.h"

namespace {

// One component of a path.
std::string Name(const Napi::Value& value) {
  std::string name = Text(value);
  if (name.empty() || name == "." || name == ".." || name.find('/') != name.npos || name.find('\0') != name.npos) {
    throw Napi::RangeError::New(value.Env(), "kvm_addon: not a name");
  }
  return name;
}

Words WordsAt(const Napi::Value& value) {
  const auto words = Elements<int64_t>(value, napi_bigint64_array);
  if (words.size() != kWords) throw Napi::RangeError::New(value.Env(), "kvm_addon: not room for what was found");
  return words.data();
}

}  // namespace

Napi::Function FolderIo::Define(Napi::Env env) {
  return DefineClass(
      env, "NativeFolderIo",
      {InstanceMethod<&FolderIo::OpenRoot>("openRoot"),
       InstanceMethod<&FolderIo::Lookup>("lookup"),
       InstanceMethod<&FolderIo::Stat>("stat"),
       InstanceMethod<&FolderIo::Create>("create"),
       InstanceMethod<&FolderIo::CreateUnnamed>("createUnnamed"),
       InstanceMethod<&FolderIo::MakeNode>("makeNode"),
       InstanceMethod<&FolderIo::MakeFolder>("makeFolder"),
       InstanceMethod<&FolderIo::Symlink>("symlink"),
       InstanceMethod<&FolderIo::Link>("link"),
       InstanceMethod<&FolderIo::Unlink>("unlink"),
       InstanceMethod<&FolderIo::Rename>("rename"),
       InstanceMethod<&FolderIo::SetAttributes>("setAttributes"),
       InstanceMethod<&FolderIo::ReadLink>("readLink"),
       InstanceMethod<&FolderIo::OpenFile>("openFile"),
       InstanceMethod<&FolderIo::OpenFolder>("openFolder"),
       InstanceMethod<&FolderIo::List>("list"),
       InstanceMethod<&FolderIo::GetXattr>("getXattr"),
       InstanceMethod<&FolderIo::SetXattr>("setXattr"),
       InstanceMethod<&FolderIo::ListXattr>("listXattr"),
       InstanceMethod<&FolderIo::RemoveXattr>("removeXattr"),
       InstanceMethod<&FolderIo::TryRead>("tryRead"),
       InstanceMethod<&FolderIo::Read>("read"),
       InstanceMethod<&FolderIo::Write>("write"),
       InstanceMethod<&FolderIo::Sync>("sync"),
       InstanceMethod<&FolderIo::Allocate>("allocate"),
       InstanceMethod<&FolderIo::Seek>("seek"),
       InstanceMethod<&FolderIo::Copy>("copy"),
       InstanceMethod<&FolderIo::StatFs>("statFs"),
       InstanceMethod<&FolderIo::CloseDescriptor>("closeDescriptor"),
       InstanceMethod<&FolderIo::Close>("close")});
}

Napi::Value FolderIo::Open(const Napi::CallbackInfo& info) {
  Opened opened{Integer<uint8_t>(info[0]), Callback(info[1])};
  return Construct(AddonData::Of(info.Env()).folder_io, &opened);
}

FolderIo::FolderIo(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      descriptors_(std::make_shared<FolderDescriptors>()),
      threads_(info.This().As<Napi::Object>(), ConstructorArgument<Opened>(info).threads,
               ConstructorArgument<Opened>(info).on_done) {}

FolderIo::~FolderIo() = default;

template <typename Call>
void FolderIo::AsCaller(const Napi::CallbackInfo& info, Call call, caller::Otherwise otherwise) {
  threads_.Submit(info[0], [uid = Integer<uint32_t>(info[1]), gid = Integer<uint32_t>(info[2]), otherwise,
                            all = descriptors_, call = std::move(call)]() -> int64_t {
    if (const int error = caller::ActAs(uid, gid, otherwise)) return -error;
    return call(*all);
  });
}

template <typename Call>
void FolderIo::WithoutRights(const Napi::CallbackInfo& info, Call call) {
  threads_.Submit(info[0], [all = descriptors_, call = std::move(call)]() -> int64_t {
    if (const int error = caller::ActWithoutRights()) return -error;
    return call(*all);
  });
}

// openRoot(id, path, words): by the process itself, as whoever started it may.
void FolderIo::OpenRoot(const Napi::CallbackInfo& info) {
  threads_.Submit(info[0], [all = descriptors_, path = Text(info[1]), words = WordsAt(info[2])] {
    return all->Told(all->Take([&] { return ::open(path.c_str(), O_PATH | O_CLOEXEC); }), words);
  });
}

// lookup(id, uid, gid, dir, name, words)
void FolderIo::Lookup(const Napi::CallbackInfo& info) {
  AsCaller(info, [dir = Integer<int>(info[3]), name = Name(info[4]), words = WordsAt(info[5])](FolderDescriptors& all) {
    return all.Find(dir, name, words);
  });
}

// stat(id, fd, words)
void FolderIo::Stat(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), words = WordsAt(info[2])](FolderDescriptors&) { return StatTo(fd, "", words); });
}

// create(id, uid, gid, dir, name, flags, mode, words): the file's descriptor; the one that holds it is in `words`.
void FolderIo::Create(const Napi::CallbackInfo& info) {
  AsOwner(info, [dir = Integer<int>(info[3]), name = Name(info[4]), flags = Integer<int>(info[5]),
                  mode = Integer<mode_t>(info[6]), words = WordsAt(info[7])](FolderDescriptors& all) -> int64_t {
    if (const int64_t error = all.Room(dir)) return error;
    const int make = flags | O_CREAT | O_EXCL | O_NOFOLLOW | kOpen;
    const int64_t made = all.TakeMade([&] { return ::openat(dir, name.c_str(), make, mode); });
    if (made != -EEXIST || flags & O_EXCL) return all.FileTold(made, words);
    const int64_t held = all.Find(dir, name, words);
    if (held < 0) return held;
    int64_t file = S_ISDIR(words[kMode]) ? -EISDIR : -ENXIO;
    if (S_ISREG(words[kMode])) file = all.Take([&] { return ::open(Path(held).c_str(), flags | kOpen); });
    // Its length may be another by now.
    if (file >= 0) StatTo(static_cast<int>(held), "", words);
    words[kDescriptor] = held;
    if (file < 0) all.Close(held);
    return file;
  });
}

// createUnnamed(id, uid, gid, dir, flags, mode, words), as create().
void FolderIo::CreateUnnamed(const Napi::CallbackInfo& info) {
  AsOwner(info, [dir = Integer<int>(info[3]), flags = Integer<int>(info[4]), mode = Integer<mode_t>(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) {
    return all.FileTold(all.Take([&] { return ::openat(dir, ".", flags | O_TMPFILE | kOpen, mode); }), words);
  });
}

// makeNode(id, uid, gid, dir, name, mode, words): a pipe, a socket, a whiteout; no device, for which it has no capability.
void FolderIo::MakeNode(const Napi::CallbackInfo& info) {
  AsOwner(info, [dir = Integer<int>(info[3]), name = Name(info[4]), mode = Integer<mode_t>(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) {
    return all.Made(dir, name, words, [&] { return ::mknodat(dir, name.c_str(), mode, 0); });
  });
}

// makeFolder(id, uid, gid, dir, name, mode, words)
void FolderIo::MakeFolder(const Napi::CallbackInfo& info) {
  AsOwner(info, [dir = Integer<int>(info[3]), name = Name(info[4]), mode = Integer<mode_t>(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) {
    return all.Made(dir, name, words, [&] { return ::mkdirat(dir, name.c_str(), mode); });
  });
}

// symlink(id, uid, gid, dir, name, target, words)
void FolderIo::Symlink(const Napi::CallbackInfo& info) {
  AsOwner(info, [dir = Integer<int>(info[3]), name = Name(info[4]), target = Text(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) {
    return all.Made(dir, name, words, [&] { return ::symlinkat(target.c_str(), dir, name.c_str()); });
  });
}

// link(id, uid, gid, fd, dir, name, words)
void FolderIo::Link(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), dir = Integer<int>(info[4]), name = Name(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) {
    return all.Made(dir, name, words, [&] {
      return ::linkat(AT_FDCWD, Path(fd).c_str(), dir, name.c_str(), AT_SYMLINK_FOLLOW);
    });
  });
}

// unlink(id, uid, gid, dir, name, flags, words): holds what was there, as it is without the name.
void FolderIo::Unlink(const Napi::CallbackInfo& info) {
  AsCaller(info, [dir = Integer<int>(info[3]), name = Name(info[4]), flags = Integer<int>(info[5]),
                  words = WordsAt(info[6])](FolderDescriptors& all) -> int64_t {
    const int64_t held = all.Find(dir, name, words);
    if (held < 0) return held;
    int64_t result = Result([&] { return ::unlinkat(dir, name.c_str(), flags); });
    if (result == 0) result = StatTo(static_cast<int>(held), "", words);
    if (result == 0) return held;
    all.Close(held);
    return result;
  });
}

// rename(id, uid, gid, dir, name, newDir, newName, flags, movedWords, otherWords): what is at the new name then; and what was there
// before, held, if it was replaced, or what is at the old name, if anything.
void FolderIo::Rename(const Napi::CallbackInfo& info) {
  AsCaller(info, [dir = Integer<int>(info[3]), name = Name(info[4]), new_dir = Integer<int>(info[5]), new_name = Name(info[6]),
                  flags = Integer<unsigned>(info[7]), moved = WordsAt(info[8]),
                  other = WordsAt(info[9])](FolderDescriptors& all) -> int64_t {
    int64_t held = -1;
    moved[kMode] = other[kMode] = 0;
    if (!(flags & (RENAME_EXCHANGE | RENAME_NOREPLACE))) {
      held = all.Find(new_dir, new_name, other);
      if (held < 0 && held != -ENOENT) return held;
    }
    const int64_t result =
        Result([&] { return ::renameat2(dir, name.c_str(), new_dir, new_name.c_str(), flags); });
    if (result < 0) {
      if (held >= 0) all.Close(held);
      return result;
    }
    StatTo(new_dir, new_name.c_str(), moved);
    if (held >= 0) {
      StatTo(static_cast<int>(held), "", other);
      other[kDescriptor] = held;
    } else if (flags & RENAME_EXCHANGE) {
      StatTo(dir, name.c_str(), other);
    }
    return 0;
  });
}

// setAttributes(id, uid, gid, fd, file, changes, words): `changes` are which, mode, uid, gid, size, and seconds and nanoseconds of
// atime and mtime. `file`, or -1, is what has it open for writing: it may be written though its permissions are gone.
void FolderIo::SetAttributes(const Napi::CallbackInfo& info) {
  constexpr int kOwner = 1, kPermissions = 2, kLength = 4, kTimes = 8;
  const auto given = Elements<int64_t>(info[5], napi_bigint64_array);
  std::array<int64_t, 9> changes{};
  if (given.size() != changes.size()) throw Napi::RangeError::New(info.Env(), "kvm_addon: not changes");
  std::copy(given.begin(), given.end(), changes.begin());
  AsCaller(info, [fd = Integer<int>(info[3]), file = Integer<int>(info[4]), changes,
                  words = WordsAt(info[6])](FolderDescriptors&) -> int64_t {
    const auto [which, mode, uid, gid, size, atime, atime_ns, mtime, mtime_ns] = changes;
    const Path path(fd);
    int64_t result = 0;
    if (which & kOwner) {
      result = ::fchownat(fd, "", static_cast<uid_t>(uid), static_cast<gid_t>(gid), AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
    }
    if (result == 0 && which & kPermissions) result = ::chmod(path.c_str(), static_cast<mode_t>(mode));
    if (result < 0) return -errno;
    if (which & kLength) {
      const off_t length = size;
      result = Result([&] { return file >= 0 ? ::ftruncate(file, length) : ::truncate(path.c_str(), length); });
      if (result < 0) return result;
    }
    if (which & kTimes) {
      const timespec times[2] = {{static_cast<time_t>(atime), static_cast<long>(atime_ns)},
                                 {static_cast<time_t>(mtime), static_cast<long>(mtime_ns)}};
      if (::utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    }
    return StatTo(fd, "", words);
  });
}

// readLink(id, uid, gid, fd, target)
void FolderIo::ReadLink(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), target = Bytes(info[4])](FolderDescriptors&) {
    return Result([&] { return ::readlinkat(fd, "", reinterpret_cast<char*>(target.data()), target.size()); });
  });
}

// openFile(id, uid, gid, fd, flags): `fd` holds a regular file.
void FolderIo::OpenFile(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), flags = Integer<int>(info[4])](FolderDescriptors& all) {
    return all.Take([&] { return ::open(Path(fd).c_str(), flags | kOpen); });
  });
}

// openFolder(id, uid, gid, fd)
void FolderIo::OpenFolder(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3])](FolderDescriptors& all) {
    return all.Take([&] { return ::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  });
}

// list(id, uid, gid, fd, position, buffer, words): entries from `position` as getdents64(2) has them; and of as many of them as
// `words` has room for, what stat(2) says, with mode 0 for `.`, `..`, and what has gone meanwhile.
void FolderIo::List(const Napi::CallbackInfo& info) {
  bool lossless = false;
  const int64_t position = info[4].As<Napi::BigInt>().Int64Value(&lossless);
  AsCaller(info, [fd = Integer<int>(info[3]), position, buffer = Bytes(info[5]),
                  words = Elements<int64_t>(info[6], napi_bigint64_array)](FolderDescriptors&) -> int64_t {
    if (::lseek(fd, position, SEEK_SET) < 0) return -errno;
    const int64_t bytes = Result([&] { return ::syscall(SYS_getdents64, fd, buffer.data(), buffer.size()); });
    size_t at = 0;
    for (size_t word = 0; static_cast<int64_t>(at) < bytes && word + kWords <= words.size(); word += kWords) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer.data() + at);
      const bool dots = std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0;
      if (dots || StatTo(fd, entry->d_name, &words[word]) < 0) words[word + kMode] = 0;
      at += entry->d_reclen;
    }
    return bytes;
  });
}

// getXattr(id, uid, gid, fd, name, value)
void FolderIo::GetXattr(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), name = Text(info[4]), value = Bytes(info[5])](FolderDescriptors&) {
    return Result([&] { return ::getxattr(Path(fd).c_str(), name.c_str(), value.data(), value.size()); });
  });
}

// setXattr(id, uid, gid, fd, name, value, flags)
void FolderIo::SetXattr(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), name = Text(info[4]), value = Bytes(info[5]),
                  flags = Integer<int>(info[6])](FolderDescriptors&) {
    return Result([&] { return ::setxattr(Path(fd).c_str(), name.c_str(), value.data(), value.size(), flags); });
  });
}

// listXattr(id, uid, gid, fd, names)
void FolderIo::ListXattr(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), names = Bytes(info[4])](FolderDescriptors&) {
    return Result([&] { return ::listxattr(Path(fd).c_str(), reinterpret_cast<char*>(names.data()), names.size()); });
  });
}

// removeXattr(id, uid, gid, fd, name)
void FolderIo::RemoveXattr(const Napi::CallbackInfo& info) {
  AsCaller(info, [fd = Integer<int>(info[3]), name = Text(info[4])](FolderDescriptors&) {
    return Result([&] { return ::removexattr(Path(fd).c_str(), name.c_str()); });
  });
}

// tryRead(fd, buffers, offset)
Napi::Value FolderIo::TryRead(const Napi::CallbackInfo& info) {
  return threads_.TryRead(Integer<int>(info[0]), info[1], info[2]);
}

// read(id, fd, buffers, offset)
void FolderIo::Read(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), buffers = Buffers(info[2]), offset = Integer<off_t>(info[3])](FolderDescriptors&) {
    return Result([&] { return ::preadv(fd, buffers.data(), static_cast<int>(buffers.size()), offset); });
  });
}

// write(id, fd, buffers, offset, append)
void FolderIo::Write(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), buffers = Buffers(info[2]), offset = Integer<off_t>(info[3]),
                       flags = info[4].ToBoolean() ? RWF_APPEND : 0](FolderDescriptors&) {
    return Result([&] { return ::pwritev2(fd, buffers.data(), static_cast<int>(buffers.size()), offset, flags); });
  });
}

// sync(id, fd, dataOnly)
void FolderIo::Sync(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), call = info[2].ToBoolean() ? ::fdatasync : ::fsync](FolderDescriptors&) {
    return Result([&] { return call(fd); });
  });
}

// allocate(id, fd, mode, offset, length)
void FolderIo::Allocate(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), mode = Integer<int>(info[2]), offset = Integer<off_t>(info[3]),
                       length = Integer<off_t>(info[4])](FolderDescriptors&) {
    return Result([&] { return ::fallocate(fd, mode, offset, length); });
  });
}

// seek(id, fd, offset, whence)
void FolderIo::Seek(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), offset = Integer<off_t>(info[2]),
                       whence = Integer<int>(info[3])](FolderDescriptors&) {
    return Result([&] { return ::lseek(fd, offset, whence); });
  });
}

// copy(id, fd, offset, newFd, newOffset, length)
void FolderIo::Copy(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1]), offset = Integer<off_t>(info[2]), new_fd = Integer<int>(info[3]),
                       new_offset = Integer<off_t>(info[4]), length = Integer<size_t>(info[5])](FolderDescriptors&) {
    return Result([&] {
      off_t from = offset;
      off_t to = new_offset;
      return ::copy_file_range(fd, &from, new_fd, &to, length, 0);
    });
  });
}

// statFs(id, fd, facts)
void FolderIo::StatFs(const Napi::CallbackInfo& info) {
  const auto facts = Elements<int64_t>(info[2], napi_bigint64_array);
  if (facts.size() != 6) throw Napi::RangeError::New(info.Env(), "kvm_addon: not room for facts");
  WithoutRights(info, [fd = Integer<int>(info[1]), facts](FolderDescriptors&) -> int64_t {
    struct statfs found;
    if (const int64_t error = Result([&] { return ::fstatfs(fd, &found); })) return error;
    const fsblkcnt_t values[] = {static_cast<fsblkcnt_t>(found.f_bsize), found.f_blocks, found.f_bfree,
                                 found.f_bavail, found.f_files, found.f_ffree};
    std::copy(std::begin(values), std::end(values), facts.begin());
    return 0;
  });
}

// closeDescriptor(id, fd)
void FolderIo::CloseDescriptor(const Napi::CallbackInfo& info) {
  WithoutRights(info, [fd = Integer<int>(info[1])](FolderDescriptors& all) { return all.Close(fd); });
}

void FolderIo::Close(const Napi::CallbackInfo&) {
  threads_.Close();
  descriptors_ = std::make_shared<FolderDescriptors>();
}
