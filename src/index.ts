/**
 * tsvm as a library: machines as objects.
 *
 * @example
 * ```ts
 * import { createMachine, findGuest } from 'tsvm';
 *
 * const guest = await findGuest();
 * await using machine = await createMachine({
 *   ...guest,
 *   command: { argv: ['uname', '-a'], tty: false },
 * });
 * machine.on('console', (bytes) => process.stdout.write(bytes));
 * await machine.start();
 * console.log(await machine.wait()); // { kind: 'power-off', exitStatus: 0 }
 * ```
 *
 * @packageDocumentation
 */

export type { AgentFileEntry, AgentFileFacts, AgentFileKind } from './agent/entries.js';
export type { FileTime, ReadOptions, WriteOptions } from './agent/files.js';
export type { AgentPath } from './agent/path.js';
export type { AgentFileEvent } from './agent/watch.js';
export type { KernelEntry } from './boot/kernel-image.js';
export type { BusDevice, FastRegister } from './bus/bus-device.js';
export type { Irq } from './bus/irq.js';
export { CAPABILITIES, type Capability, DEFAULT_CAPABILITIES } from './container/capabilities.js';
export type { Usage } from './container/cgroup.js';
export {
  type ContainerConfig,
  ENGINES,
  type Engine,
  type IdRange,
  type IoLimit,
  type Limits,
  NAMESPACES,
  type Namespace,
  type Volume,
} from './container/config.js';
export {
  type Container,
  type ContainerEnd,
  type ContainerHost,
  startContainer,
} from './container/container.js';
export { ExecuteError, type ExitStatus, type Streams } from './container/launcher.js';
export { connect, listMachines, type RemoteEvent, RemoteMachine } from './control/client/connect.js';
export type { InstanceState } from './control/instance.js';
export type { InstanceEnd } from './control/instance-end.js';
export type { MachineRecord, RecordedEnd, RecordedStart } from './control/machine-store.js';
export { type Publication, type PublishOptions, publish } from './control/publish.js';
export type { ProcessStats } from './control/stats/process-meter.js';
export type { MachineStats, VcpuStats } from './control/stats/stats.js';
export {
  BALLOON_STATS,
  type BalloonControl as MachineBalloon,
  type BalloonHost,
  type BalloonStats,
} from './devices/backends/balloon.js';
export type { ConsoleInput, ConsolePort, PortControl, PortHost } from './devices/backends/console.js';
export type { BlockBackend, DiskControl as MachineDisk, DiskOptions } from './devices/backends/disk.js';
export {
  type AttributeChanges,
  type DirectoryEntry,
  type FileAttributes,
  type FileEntry,
  type FileOwner,
  type FileSystem,
  type FileSystemFacts,
  fileError,
  type RenameHow,
  type SetXattrHow,
  type ShareOptions,
} from './devices/backends/file-system.js';
export type { Host, HostLook } from './devices/backends/host.js';
export type {
  FrameSource,
  NetBackend,
  NetClient,
  NetControl as MachineCard,
  NetHub,
  NetPlace,
  Offloads,
  PortForward,
  TapNet,
  UserNet,
} from './devices/backends/net.js';
export type { PmemBackend } from './devices/backends/pmem.js';
export type {
  VsockConnection,
  VsockControl,
  VsockEnd,
  VsockHost,
  VsockPeer,
} from './devices/backends/vsock.js';
export { balloon } from './devices/balloon/balloon.js';
export { blk } from './devices/blk/blk.js';
export type { BlkConfig } from './devices/blk/config.js';
export type { SocketPort, VirtioConsoleConfig } from './devices/console/config.js';
export { virtioConsole } from './devices/console/console.js';
export type { ShareConfig } from './devices/fs/config.js';
export { type Share, share } from './devices/fs/fs.js';
export { type MemoryFile, MemoryFileSystem, type MemoryNode } from './devices/fs/memory-file-system.js';
export type { Binding, HostSlot, HostUse, SlotBinding } from './devices/host-slot.js';
export { net, netAt } from './devices/net/net.js';
export type { NetConfig } from './devices/net/options.js';
export { type PmemConfig, pmem } from './devices/pmem.js';
export type { RateLimit } from './devices/rate-limit.js';
export { type DeviceKind, type DeviceRequest, deviceKinds, type HostPath } from './devices/registry.js';
export { rng } from './devices/rng.js';
export type { VsockConfig } from './devices/vsock/config.js';
export { vsock } from './devices/vsock/kind.js';
export { GuestError, TsvmError, type TsvmErrorCode } from './errors.js';
export type { GuestChannel } from './guest/channel.js';
export type { GuestCommand } from './guest/command.js';
export type { GuestFacts } from './guest/facts.js';
export { findGuest, type Guest, type GuestBuild, listGuests } from './guest/store.js';
export { NetSwitch, type NetSwitchCounters, type NetSwitchOptions } from './host/net/net-switch.js';
export type { HeldMemory } from './host/proc.js';
export type { MachineVsock } from './host/vsock/endpoint.js';
export type { BlobPlace } from './image/blob.js';
export type { DirectoryImage, Image, ImageConfig, Layer, LayeredImage } from './image/image.js';
export type { LoadedImage } from './image/load-image.js';
export type { Reference } from './image/reference.js';
export { ImageStore, type MakeProgress } from './image/store.js';
export type { DeviceBindings, HostWish } from './machine/bindings.js';
export type { DeviceDiscovery, MachineConfig } from './machine/config.js';
export type { MachineConsole } from './machine/console.js';
export { createMachine } from './machine/create.js';
export type {
  ForkOptions,
  Machine,
  MachineControls,
  MachineEnd,
  MachineEvent,
  MachineEvents,
  MachineOf,
  MachinePart,
  MachineState,
  MachineTimeline,
  MachineWith,
} from './machine/machine.js';
export type { DeviceMetrics, ExitMetrics, MachineMetrics, VcpuMetrics } from './machine/report/metrics.js';
export { prometheusText } from './machine/report/prometheus.js';
export type { TimelineEntry } from './machine/report/timeline.js';
export {
  openSavedMachine,
  type RestoreOptions,
  restoreMachine,
  type SavedMachine,
} from './machine/restore.js';
export type { GuestMemory, MemoryRegion } from './memory/guest-memory.js';
export type { Isolation } from './sandbox/backing.js';
export type { CallOptions } from './sandbox/call.js';
export type { CommandOptions, CommandWords, TerminalSize } from './sandbox/command.js';
export { CommandError, type CommandInput, type ExecOptions, type ExecResult } from './sandbox/exec.js';
export type { SandboxFileData, SandboxFiles } from './sandbox/files.js';
export type { IdleEnd } from './sandbox/idle.js';
export type { Job, JobEnd, JobFacts, SpawnOptions } from './sandbox/job.js';
export type { SandboxOptions, SandboxVolume } from './sandbox/options.js';
export type {
  PortForward as SandboxPort,
  PortForwardOptions as SandboxPortOptions,
} from './sandbox/port-forward.js';
export type { SandboxFacts, SandboxFilter } from './sandbox/remote-backing.js';
export { Sandbox } from './sandbox/sandbox.js';
export type { SnapshotOptions, SnapshotProgress, SnapshotResult } from './snapshot/format.js';
export { machineFromTemplate, type TemplateOptions } from './template/template.js';
export type { Abortable } from './util/abort.js';
export type { FeedReader } from './util/feed.js';
export type { DurationHistogram, DurationSummary } from './util/histogram.js';
export type { VersionedState } from './util/state.js';
export type { Chain, ChainReader, ChainWriter } from './virtio/chain.js';
export {
  type ConfigSpace,
  DEFAULT_REQUEST_BYTES,
  type DeviceCounters,
  type DeviceState,
  type VirtioContext,
  type VirtioDevice,
  type Virtqueue,
} from './virtio/device.js';
export type { QueueCounters } from './virtio/queue.js';
