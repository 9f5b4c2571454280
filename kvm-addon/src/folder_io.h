// System calls in a folder that is shared, on threads of the object's own, each for one user and by descriptors: a name is one
// component in the folder of a descriptor, and a link is never followed.
#pragma once

#include <napi.h>

#include <memory>
#include <utility>

#include "caller.h"
#include "io_threads.h"

class FolderDescriptors;

class FolderIo : public Napi::ObjectWrap<FolderIo> {
 public:
  static Napi::Function Define(Napi::Env env);
  // openFolderIo(threads, onDone)
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit FolderIo(const Napi::CallbackInfo& info);
  ~FolderIo() override;

 private:
  struct Opened {
    size_t threads;
    Napi::Function on_done;
  };

  // Submits a call for the user of info[1] and info[2].
  template <typename Call>
  void AsCaller(const Napi::CallbackInfo& info, Call call, caller::Otherwise otherwise = caller::Otherwise::kStay);
  // Submits one whose result will be that user's.
  template <typename Call>
  void AsOwner(const Napi::CallbackInfo& info, Call call) {
    AsCaller(info, std::move(call), caller::Otherwise::kFail);
  }
  // Submits a call on what is open.
  template <typename Call>
  void WithoutRights(const Napi::CallbackInfo& info, Call call);

  void OpenRoot(const Napi::CallbackInfo& info);
  void Lookup(const Napi::CallbackInfo& info);
  void Stat(const Napi::CallbackInfo& info);
  void Create(const Napi::CallbackInfo& info);
  void CreateUnnamed(const Napi::CallbackInfo& info);
  void MakeNode(const Napi::CallbackInfo& info);
  void MakeFolder(const Napi::CallbackInfo& info);
  void Symlink(const Napi::CallbackInfo& info);
  void Link(const Napi::CallbackInfo& info);
  void Unlink(const Napi::CallbackInfo& info);
  void Rename(const Napi::CallbackInfo& info);
  void SetAttributes(const Napi::CallbackInfo& info);
  void ReadLink(const Napi::CallbackInfo& info);
  void OpenFile(const Napi::CallbackInfo& info);
  void OpenFolder(const Napi::CallbackInfo& info);
  void List(const Napi::CallbackInfo& info);
  void GetXattr(const Napi::CallbackInfo& info);
  void SetXattr(const Napi::CallbackInfo& info);
  void ListXattr(const Napi::CallbackInfo& info);
  void RemoveXattr(const Napi::CallbackInfo& info);
  Napi::Value TryRead(const Napi::CallbackInfo& info);
  void Read(const Napi::CallbackInfo& info);
  void Write(const Napi::CallbackInfo& info);
  void Sync(const Napi::CallbackInfo& info);
  void Allocate(const Napi::CallbackInfo& info);
  void Seek(const Napi::CallbackInfo& info);
  void Copy(const Napi::CallbackInfo& info);
  void StatFs(const Napi::CallbackInfo& info);
  void CloseDescriptor(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  // SAFETY: buffers and words are JavaScript's or the guest's memory. src/host/io-calls.ts holds each until its call is done, and
  // Close() and the end of the environment wait for the threads; they write them, and nobody reads them before.
  std::shared_ptr<FolderDescriptors> descriptors_;
  IoThreads threads_;
};
