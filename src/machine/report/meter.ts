/** Meter of one machine: reads the counters of its vCPUs, of KVM and of its devices. Its last readings outlive the vCPUs. */
import type { NativeVcpu } from '../../native/binding.js';
import type { VirtioMmio } from '../../virtio/transport/mmio.js';
import type { MachineTimeline } from '../machine.js';
import { deviceMetrics, exitMetrics, kvmStats, type MachineMetrics, vcpuMetrics } from './metrics.js';
import type { Timeline } from './timeline.js';

export interface MeterOptions {
  /** Name of the host profile. */
  readonly profile: string;
  readonly timeline: Timeline;
  readonly vcpus: readonly NativeVcpu[];
  readonly slots: readonly { readonly transport: VirtioMmio }[];
  /** Exits that the host profile dealt with so far. */
  readonly assistedExits: () => number;
}

type Readings = Pick<MachineTimeline, 'exits' | 'insnEmulation' | 'kvmStats'>;

export class Meter {
  readonly #options: MeterOptions;
  #last: Readings | undefined;

  constructor(options: MeterOptions) {
    this.#options = options;
  }

  /** Takes the last readings: the vCPUs are about to go. */
  finish(): void {
    this.#last = this.#read();
    this.#options.timeline.mark('end', this.#last.insnEmulation);
  }

  metrics(): MachineMetrics {
    const { vcpus, slots } = this.#options;
    const { exits, kvmStats: stats } = this.#last ?? this.#read();
    return {
      exits,
      ...(stats === undefined ? {} : { kvmStats: stats }),
      vcpus: vcpuMetrics(vcpus),
      devices: deviceMetrics(slots),
    };
  }

  timeline(): MachineTimeline {
    const { profile, timeline } = this.#options;
    return { profile, phases: timeline.entries, ...(this.#last ?? this.#read()) };
  }

  #read(): Readings {
    const { vcpus, assistedExits } = this.#options;
    const stats = kvmStats(vcpus);
    return {
      exits: exitMetrics(vcpus, assistedExits()),
      insnEmulation: stats?.get('insn_emulation'),
      kvmStats: stats && Object.fromEntries([...stats].filter(([, value]) => value !== 0)),
    };
  }
}
