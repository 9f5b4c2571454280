/** Puts a machine together: the VM, its devices, and the wires between. For boot, restore and fork alike. */
import type { BalloonControl } from '../devices/backends/balloon.js';
import type { PortHost } from '../devices/backends/console.js';
import type { Host } from '../devices/backends/host.js';
import { Blk } from '../devices/blk/blk.js';
import { virtioConsole } from '../devices/console/console.js';
import { Net } from '../devices/net/net.js';
import type { DeviceRequest } from '../devices/registry.js';
import { TsvmError } from '../errors.js';
import { readHostFacts } from '../host/facts.js';
import type { MachineHost } from '../host/host.js';
import type { HostProfile } from '../kvm/profiles/profile.js';
import { detectProfile, hostProfiles } from '../kvm/profiles/registry.js';
import type { Vm } from '../kvm/vm.js';
import { createGuestMemory } from '../memory/guest-memory.js';
import type { NativeAddon, NativeKvm } from '../native/binding.js';
import { CHANNEL_PORTS, MachineChannel } from './channel.js';
import { DEFAULT_MEMORY_BYTES, type MachineConfig } from './config.js';
import type { KvmMachine, Parts } from './kvm-machine.js';
import { Platform } from './platform.js';
import { PmemSlots } from './pmem-slots.js';
import { STOP_PORTS, StopPort } from './stop-port.js';
import { Wiring } from './wiring.js';

export interface Pieces {
  readonly config: MachineConfig;
  readonly addon: NativeAddon;
  readonly kvm: NativeKvm;
  /** The machine's from now on, also if this fails. */
  readonly vm: Vm;
  readonly host: MachineHost;
}

/** The parts of `machine`, whose clean-up they are given to as they come into being. */
export async function assemble(
  machine: KvmMachine,
  pieces: Pieces,
): Promise<Omit<Parts, 'cmdline' | 'origin'>> {
  const { config, addon, vm, host } = pieces;
  const { cleanup } = machine;
  const devices = [];
  cleanup.defer(() => host.close());
  const channel = config.channel === true ? new MachineChannel(config) : undefined;
  const stopPort = config.stopPort === true ? new StopPort() : undefined;
  let balloon: BalloonControl | undefined;
  const pmem = new PmemSlots({
    addon,
    vm,
    memoryBytes: config.memoryBytes ?? DEFAULT_MEMORY_BYTES,
    onLost: (message) => machine.memoryLost(message),
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
  }
  cleanup.defer(() => vm.close());
  const memory = createGuestMemory(vm.ram.mapped, pmem.mapped);
  const wiring = new Wiring(addon, vm.handle, machine.guard);
  cleanup.defer(() => wiring.close());
  const { terminal, platformEvents: events } = machine;
  const platform = new Platform({ config, memory, wiring, devices, terminal, events });
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

/** The first device, so that the guest's init finds the ports at /dev/vport0p*. */
function consoleRequests({ console, channel, stopPort }: MachineConfig): DeviceRequest[] {
  const terminal = console === 'virtio';
  if (channel === true) return [virtioConsole({ console: terminal, ports: CHANNEL_PORTS })];
  if (stopPort === true) return [virtioConsole({ console: terminal, ports: STOP_PORTS })];
  return terminal ? [virtioConsole()] : [];
}

function portOf(ours: MachineChannel | StopPort | undefined, name: string): PortHost {
  if (ours instanceof MachineChannel) return ours.port(name);
  if (ours === undefined || name !== STOP_PORTS[0]) {
    throw new TsvmError('TSVM_CONFIG', `console.ports: nobody serves port '${name}' without a channel`);
  }
  return ours;
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
