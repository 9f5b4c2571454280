// What the addon keeps for one environment: there are no globals.
#pragma once

#include <napi.h>

#include <memory>

#include "event_hub.h"

struct AddonData {
  std::shared_ptr<EventHub> hub;
  Napi::FunctionReference kvm;
  Napi::FunctionReference vm;
  Napi::FunctionReference vcpu;
  Napi::FunctionReference memory;
  Napi::FunctionReference event_fd;
  Napi::FunctionReference tap;
  Napi::FunctionReference disk_io;
  Napi::FunctionReference folder_io;

  static AddonData& Of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

// The classes are made by C++ only: their one argument is an External with what their constructor needs.
template <typename Argument>
Napi::Object Construct(const Napi::FunctionReference& constructor, Argument* argument) {
  return constructor.New({Napi::External<Argument>::New(constructor.Env(), argument)});
}

template <typename Argument>
Argument& ConstructorArgument(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "kvm_addon: not a public constructor");
  return *info[0].As<Napi::External<Argument>>().Data();
}

// The C++ side of `value`, which must be an object of that class.
template <typename Class>
Class& Unwrapped(const Napi::Value& value, const Napi::FunctionReference& constructor) {
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(constructor.Value())) {
    throw Napi::TypeError::New(value.Env(), "kvm_addon: not an object of the expected class");
  }
  return *Class::Unwrap(value.As<Napi::Object>());
}
