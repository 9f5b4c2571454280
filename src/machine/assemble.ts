/** Puts a machine together: the VM, its devices, and the wires between. For boot, restore and fork alike. */
import type { BalloonControl } from '../devices/backends/balloon.js';
import type { Host } from '../devices/backends/host.js';
import { Blk } from '../devices/blk/blk.js';
import { virtioConsole } from '../devices/console/console.js';
import { Net } from '../devices/net/net.js';
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { MachineChannel } from '../guest/channel.js';
import { initPorts, portOf } from '../guest/init-ways.js';
import { StopPort } from '../guest/stop-port.js';
import { readHostFacts } from '../host/facts.js';
import type { MachineHost } from '../host/host.js';
import type { HostProfile } from '../kvm/profiles/profile.js';
import { detectProfile, hostProfiles } from '../kvm/profiles/registry.js';
import type { Vm } from '../kvm/vm.js';
import { createGuestMemory } from '../memory/guest-memory.js';
import type { NativeAddon, NativeKvm } from '../native/binding.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import type { Parts } from './core.js';
import type { Lifecycle } from './lifecycle.js';
import { Platform, type PlatformEvents } from './platform.js';
import { PmemSlots } from './pmem-slots.js';
import { insnEmulation } from './report/metrics.js';
import { Wiring } from './wiring.js';

/** Pieces of a machine that how it is made decides: booted, restored or forked. */
export interface Pieces {
  readonly addon: NativeAddon;
  readonly kvm: NativeKvm;
  /** The machine's from now on, also if this fails. */
  readonly vm: Vm;
  readonly profile: HostProfile;
  readonly host: MachineHost;
}

/** Makes the parts of a machine, wired to its lifecycle, whose clean-up each is given to as it comes into being. */
export async function assemble(
  lifecycle: Lifecycle,
  config: MachineConfig,
  pieces: Pieces,
  signal?: AbortSignal,
): Promise<Omit<Parts, 'cmdline' | 'origin'>> {
  const { addon, vm, host } = pieces;
  const { cleanup, guard, terminal } = lifecycle;
  const devices = [];
  cleanup.defer(() => host.close());
  const channel = config.channel === true ? channelOf(config, host) : undefined;
  const stopPort = config.stopPort === true ? new StopPort() : undefined;
  let balloon: BalloonControl | undefined;
  const pmem = new PmemSlots({
    addon,
    vm,
    memoryBytes: config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    onLost: (message) => lifecycle.memoryLost(message),
  });
  const deviceHost: Host = {
    ...host,
    openPmem: async (path) => await pmem.add(await host.openPmemFile(path)),
    openPort: (name) => portOf(channel ?? stopPort, name),
    openBalloon() {
      if (balloon !== undefined)
        throw new TsvmError('TSVM_CONFIG', 'balloon: a machine has no more than one', {
          hint: 'give `balloon()` once',
        });
      return {
        attach: (control) => {
          balloon = control;
        },
        release: (views) => vm.ram.release(views),
      };
    },
  };
  for (const request of [...consoleRequests(config), ...(config.devices ?? [])]) {
    const device = await request.open(deviceHost);
    cleanup.defer(() => device.close?.());
    devices.push(device);
    signal?.throwIfAborted();
  }
  cleanup.defer(() => vm.close());
  const memory = createGuestMemory(vm.ram.mapped, pmem.mapped);
  const wiring = new Wiring(addon, vm.handle, guard);
  cleanup.defer(() => wiring.close());
  const events = platformEvents(lifecycle, vm, channel);
  const { generation } = vm;
  const platform = new Platform({ config, memory, wiring, generation, devices, terminal, events });
  cleanup.defer(async () => {
    try {
      await platform.pause();
    } catch (error) {
      // Its requests may still be under way, into memory that would be somebody else's by then.
      vm.keepMemory();
      pmem.keepMemory();
      throw error;
    }
  });
  pmem.watch(platform.mmio);
  wiring.connect();
  const disks = devices.filter((device) => device instanceof Blk);
  const cards = devices.filter((device) => device instanceof Net);
  return { ...pieces, memory, platform, channel, stopPort, balloon, disks, cards, pmem };
}

function channelOf(config: MachineConfig, host: MachineHost): MachineChannel {
  if (config.agent !== true) return new MachineChannel(config);
  return new MachineChannel(config, async (port, options) => {
    const sockets = host.vsock();
    if (sockets === undefined) throw new TsvmError('TSVM_STATE', 'a machine without a vsock has no agent');
    return await sockets.connect(port, options);
  });
}

/** Answers of the machine to what the platform's devices tell it. */
function platformEvents(
  lifecycle: Lifecycle,
  { vcpus }: Vm,
  channel: MachineChannel | undefined,
): PlatformEvents {
  const { ends, events } = lifecycle;
  return {
    onMark: (code) => {
      lifecycle.mark(code, () => insnEmulation(vcpus));
      channel?.agent?.onMark(code);
    },
    onExitStatus: (status) => {
      ends.exitStatus = status;
      channel?.onExitStatus(status);
    },
    onPowerOff: () => lifecycle.finish(ends.powerOff()),
    onReset: () => lifecycle.finish(ends.reset()),
    onDeviceError: (device, reason) => events.emit('deviceError', { device, reason }),
    onDeviceFault: (device, error) => lifecycle.fault(`the device ${device}`, error),
  };
}

/** The first device, so that the guest's init finds the ports at /dev/vport0p*. */
function consoleRequests(config: MachineConfig): DeviceRequest[] {
  const terminal = config.console === 'virtio';
  const ports = initPorts(config);
  if (ports.length > 0) return [virtioConsole({ console: terminal, ports })];
  return terminal ? [virtioConsole()] : [];
}

export function chooseProfile(name: string): HostProfile {
  if (name === 'auto') return detectProfile(readHostFacts());
  const profile = hostProfiles.find((candidate) => candidate.name === name);
  if (profile === undefined) {
    throw new TsvmError('TSVM_CONFIG', `profile: there is no host profile '${name}'`, {
      hint: `one of auto, ${hostProfiles.map((candidate) => candidate.name).join(', ')}`,
    });
  }
  return profile;
}
