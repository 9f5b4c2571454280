/** Every benchmark, in the order in which they run. */
import type { Benchmark } from './lib/benchmark.js';
import { agentExec } from './micro/agent-exec.js';
import { hop } from './micro/hop.js';
import { queue } from './micro/queue.js';
import { shareRequests } from './micro/share-requests.js';
import { bootInstructions } from './system/boot-instructions.js';
import { bootTime } from './system/boot-time.js';
import { density } from './system/density.js';
import { diskThroughput } from './system/disk-throughput.js';
import { exits } from './system/exits.js';
import { fork } from './system/fork.js';
import { idleCpu } from './system/idle-cpu.js';
import { imageStart } from './system/image-start.js';
import { incoming } from './system/incoming.js';
import { memory } from './system/memory.js';
import { netThroughput } from './system/net-throughput.js';
import { restore } from './system/restore.js';
import { serialThroughput } from './system/serial-throughput.js';
import { shareThroughput } from './system/share-throughput.js';
import { vsockThroughput } from './system/vsock-throughput.js';

export const benchmarks: readonly Benchmark[] = [
  bootInstructions,
  bootTime,
  exits,
  restore,
  incoming,
  imageStart,
  fork,
  memory,
  density,
  idleCpu,
  serialThroughput,
  diskThroughput,
  netThroughput,
  vsockThroughput,
  shareThroughput,
  hop,
  queue,
  shareRequests,
  agentExec,
];
