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
  type Namespace,
  type Volume,
} from './container/config.js';
export {
  type Container,
  type ContainerEnd,
  type ContainerHost,
  startContainer,
} from './container/container.js';
export { ExecuteError, type ExitStatus } from './container/launcher.js';
export { connect, listMachines, type RemoteEvent, RemoteMachine } from './control/connect.js';
export type { InstanceEnd } from './control/instance-end.js';
export type { MachineRecord, RecordedEnd } from './control/machine-store.js';
export type { MachineStats } from './control/stats.js';
export type { BalloonStats } from './devices/balloon-stats.js';
export type { BlkConfig } from './devices/blk-config.js';
export type { SocketPort, VirtioConsoleConfig } from './devices/console-config.js';
export {
  type AttributeChanges,
  type DirectoryEntry,
  type FileAttributes,
  type FileEntry,
  type FileOwner,
  type FileSystem,
  type FileSystemFacts,
  fileError,
} from './devices/fuse/file-system.js';
export { MemoryFileSystem } from './devices/fuse/memory-file-system.js';
export type {
  BalloonControl as MachineBalloon,
  DiskControl as MachineDisk,
  NetControl as MachineCard,
} from './devices/host.js';
export type { Binding } from './devices/host-slot.js';
export type { NetBackend, NetClient, NetHub, PortForward } from './devices/net-backend.js';
export type { NetConfig } from './devices/net-options.js';
export { type DeviceKind, type DeviceRequest, deviceKinds } from './devices/registry.js';
export type { ShareConfig } from './devices/share-config.js';
export { balloon } from './devices/virtio/balloon.js';
export { blk } from './devices/virtio/blk.js';
export { virtioConsole } from './devices/virtio/console.js';
export { type Share, share } from './devices/virtio/fs.js';
export { net, netAt } from './devices/virtio/net.js';
export { type PmemConfig, pmem } from './devices/virtio/pmem.js';
export { rng } from './devices/virtio/rng.js';
export { vsock } from './devices/virtio/vsock.js';
export type { VsockConfig } from './devices/vsock-config.js';
export { GuestError, TsvmError, type TsvmErrorCode } from './errors.js';
export { findGuest, type Guest, type GuestBuild, listGuests } from './host/guest-store.js';
export { NetSwitch, type NetSwitchCounters, type NetSwitchOptions } from './host/net-switch.js';
export type { MachineVsock } from './host/vsock-endpoint.js';
export { type Image, ImageStore } from './image/image.js';
export type { DeviceBindings, HostWish } from './machine/bindings.js';
export type { GuestChannel } from './machine/channel.js';
export type { DeviceDiscovery, GuestCommand, MachineConfig } from './machine/config.js';
export { createMachine } from './machine/create.js';
export type { GuestFacts } from './machine/guest-facts.js';
export type {
  Machine,
  MachineEnd,
  MachineEvents,
  MachineState,
  MachineTimeline,
} from './machine/machine.js';
export type { DeviceMetrics, ExitMetrics, MachineMetrics } from './machine/metrics.js';
export { prometheusText } from './machine/prometheus.js';
export {
  openSavedMachine,
  type RestoreOptions,
  restoreMachine,
  type SavedMachine,
} from './machine/restore.js';
export type { MachineConsole } from './machine/terminal.js';
export type { GuestMemory } from './memory/guest-memory.js';
export type { SnapshotOptions, SnapshotProgress, SnapshotResult } from './snapshot/format.js';
export { machineFromTemplate, type TemplateOptions } from './template/template.js';
export type { Chain, ChainReader, ChainWriter } from './virtio/chain.js';
export type { ConfigSpace, DeviceState, VirtioContext, VirtioDevice, Virtqueue } from './virtio/device.js';
