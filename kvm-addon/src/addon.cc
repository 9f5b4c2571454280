// The addon's exports; see src/native/binding.ts for their types.
#include <napi.h>

#include "addon_data.h"
#include "disk_io.h"
#include "event_fd.h"
#include "folder_io.h"
#include "host_files.h"
#include "kvm.h"
#include "memory.h"
#include "tap.h"
#include "vcpu.h"
#include "vm.h"

static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData();
  env.SetInstanceData(data);
  data->hub = std::make_shared<EventHub>(env);
  data->hub->Open();
  data->kvm = Napi::Persistent(Kvm::Define(env));
  data->vm = Napi::Persistent(Vm::Define(env));
  data->vcpu = Napi::Persistent(Vcpu::Define(env));
  data->memory = Napi::Persistent(Memory::Define(env));
  data->event_fd = Napi::Persistent(EventFd::Define(env));
  data->tap = Napi::Persistent(Tap::Define(env));
  data->disk_io = Napi::Persistent(DiskIo::Define(env));
  data->folder_io = Napi::Persistent(FolderIo::Define(env));

  exports.Set("openKvm", Napi::Function::New<Kvm::Open>(env, "openKvm"));
  exports.Set("createMemory", Napi::Function::New<Memory::Create>(env, "createMemory"));
  exports.Set("createEventFd", Napi::Function::New<EventFd::Create>(env, "createEventFd"));
  exports.Set("openTap", Napi::Function::New<Tap::Open>(env, "openTap"));
  exports.Set("openDiskIo", Napi::Function::New<DiskIo::Open>(env, "openDiskIo"));
  exports.Set("openFolderIo", Napi::Function::New<FolderIo::Open>(env, "openFolderIo"));
  exports.Set("flock", Napi::Function::New<Flock>(env, "flock"));
  exports.Set("fallocate", Napi::Function::New<Fallocate>(env, "fallocate"));
  exports.Set("makeFifo", Napi::Function::New<MakeFifo>(env, "makeFifo"));
  exports.Set("setXattr", Napi::Function::New<SetXattr>(env, "setXattr"));
  exports.Set("setTimes", Napi::Function::New<SetTimes>(env, "setTimes"));
  exports.Set("memfd", Napi::Function::New<Memfd>(env, "memfd"));
  exports.Set("blockDeviceBytes", Napi::Function::New<BlockDeviceBytes>(env, "blockDeviceBytes"));
  return exports;
}

NODE_API_MODULE(kvm_addon, Init)
