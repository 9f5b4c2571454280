/**
 * What requests and replies look like: Firecracker's published API (firecracker.yaml, 1.13), as far as tsvm has the same things.
 *
 * Unknown fields are refused, as there. What is known and cannot be done here is refused by name, in setup.ts.
 */
import { z } from 'zod';
import { MAX_CARD_ID_CHARACTERS } from '../../devices/net-options.js';

const text = z.string().min(1);
const whole = z.int().min(0);
const id = z.string().regex(/^\w+$/, 'only letters, digits and underscores are allowed');
const cardId = id.max(MAX_CARD_ID_CHARACTERS, `at most ${MAX_CARD_ID_CHARACTERS} characters are allowed`);

const tokenBucket = z
  .strictObject({
    size: whole,
    refill_time: whole.describe('milliseconds'),
    one_time_burst: whole.nullable().optional(),
  })
  .nullable();
export const rateLimiter = z
  .strictObject({ bandwidth: tokenBucket.optional(), ops: tokenBucket.optional() })
  .nullable();
export type RateLimiter = z.infer<typeof rateLimiter>;

export const machineConfiguration = z.strictObject({
  vcpu_count: z.int().min(1).max(32),
  mem_size_mib: z.int().min(1),
  smt: z.boolean().optional(),
  cpu_template: z.enum(['C3', 'T2', 'T2S', 'T2CL', 'T2A', 'V1N1', 'None']).nullable().optional(),
  track_dirty_pages: z.boolean().optional(),
  huge_pages: z.enum(['None', 'Transparent', '2M']).optional(),
});
export const machineConfigurationUpdate = machineConfiguration.partial();

export const bootSource = z.strictObject({
  kernel_image_path: text,
  initrd_path: text.nullable().optional(),
  boot_args: z.string().nullable().optional(),
});

export const drive = z.strictObject({
  drive_id: id,
  is_root_device: z.boolean(),
  path_on_host: text.nullable().optional(),
  is_read_only: z.boolean().nullable().optional(),
  // It goes into the kernel's command line, where a blank would begin another parameter.
  partuuid: text
    .regex(/^[\w-]*$/, 'is not a partition’s UUID')
    .nullable()
    .optional(),
  cache_type: z.enum(['Unsafe', 'Writeback']).optional(),
  io_engine: z.enum(['Sync', 'Async']).nullable().optional(),
  rate_limiter: rateLimiter.optional(),
  socket: text.nullable().optional(),
});
export const partialDrive = z.strictObject({
  drive_id: id,
  path_on_host: text.optional(),
  rate_limiter: rateLimiter.optional(),
});

export const pmemDevice = z.strictObject({
  id,
  path_on_host: text,
  root_device: z.boolean().optional(),
  read_only: z.boolean().optional(),
});

export const networkInterface = z.strictObject({
  iface_id: cardId,
  host_dev_name: text,
  guest_mac: text.nullable().optional(),
  mtu: z.int().min(68).max(65535).nullable().optional(),
  rx_rate_limiter: rateLimiter.optional(),
  tx_rate_limiter: rateLimiter.optional(),
});

export const partialNetworkInterface = z.strictObject({
  iface_id: cardId,
  rx_rate_limiter: rateLimiter.optional(),
  tx_rate_limiter: rateLimiter.optional(),
});

export const vsockDevice = z.strictObject({
  guest_cid: z.int().min(3),
  uds_path: text,
  vsock_id: z.string().optional(),
});

export const entropyDevice = z.strictObject({ rate_limiter: rateLimiter.optional() });

export const balloonDevice = z.strictObject({
  amount_mib: whole,
  deflate_on_oom: z.boolean(),
  stats_polling_interval_s: whole.optional(),
  free_page_reporting: z.boolean().optional(),
  free_page_hinting: z.boolean().optional(),
});
export const balloonUpdate = z.strictObject({ amount_mib: whole });
export const balloonStatsUpdate = z.strictObject({ stats_polling_interval_s: whole });
export const balloonStatistics = z.strictObject({
  target_pages: whole,
  actual_pages: whole,
  target_mib: whole,
  actual_mib: whole,
  swap_in: whole.optional(),
  swap_out: whole.optional(),
  major_faults: whole.optional(),
  minor_faults: whole.optional(),
  free_memory: whole.optional(),
  total_memory: whole.optional(),
  available_memory: whole.optional(),
  disk_caches: whole.optional(),
  hugetlb_allocations: whole.optional(),
  hugetlb_failures: whole.optional(),
  oom_kill: whole.optional(),
  alloc_stall: whole.optional(),
  async_scan: whole.optional(),
  direct_scan: whole.optional(),
  async_reclaim: whole.optional(),
  direct_reclaim: whole.optional(),
});

export const logger = z.strictObject({
  log_path: text.optional(),
  level: z
    .string()
    .regex(/^(error|warning|warn|info|debug|trace|off)$/i, 'Error, Warning, Info, Debug, Trace or Off')
    .optional(),
  show_level: z.boolean().optional(),
  show_log_origin: z.boolean().optional(),
  module: z.string().optional(),
});
export const metricsTarget = z.strictObject({ metrics_path: text });
export const serialDevice = z.strictObject({ serial_out_path: text.nullable().optional() });

export const action = z.strictObject({
  action_type: z.enum(['InstanceStart', 'SendCtrlAltDel', 'FlushMetrics']),
});
export const vmState = z.strictObject({ state: z.enum(['Paused', 'Resumed']) });

export const snapshotCreate = z.strictObject({
  snapshot_path: text,
  mem_file_path: text,
  snapshot_type: z.enum(['Full', 'Diff']).optional(),
  version: z.string().optional(),
});
/** Bindings of a saved machine's slots by their names, in tsvm's own words: what it may have of the host. */
export const slotBindings = z
  .record(z.string(), z.record(z.string(), z.unknown()))
  .describe(
    '{"disk 0": {"path": ..., "direct": true}, "share TAG": {"path": ..., "readOnly": true}, "net 0": {"backend": "user"}, ...}',
  );

export const snapshotLoad = z.strictObject({
  snapshot_path: text,
  mem_file_path: text.optional(),
  mem_backend: z.strictObject({ backend_path: text, backend_type: z.enum(['File', 'Uffd']) }).optional(),
  enable_diff_snapshots: z.boolean().optional(),
  track_dirty_pages: z.boolean().optional(),
  resume_vm: z.boolean().optional(),
  network_overrides: z.array(z.strictObject({ iface_id: text, host_dev_name: text })).optional(),
  vsock_override: z.strictObject({ uds_path: text }).optional(),
  clock_realtime: z.boolean().optional(),
  tsvm_devices: slotBindings.optional(),
});

export const instanceInfo = z.strictObject({
  app_name: z.string(),
  id: z.string(),
  state: z.enum(['Not started', 'Running', 'Paused']),
  vmm_version: z.string(),
});
export const version = z.strictObject({ firecracker_version: z.string() });

/** A whole machine, as `--config-file` has it and `GET /vm/config` gives it. */
export const fullConfiguration = z.strictObject({
  'boot-source': bootSource.optional(),
  drives: z.array(drive).optional(),
  'machine-config': machineConfiguration.optional(),
  'network-interfaces': z.array(networkInterface).optional(),
  pmem: z.array(pmemDevice).optional(),
  vsock: vsockDevice.nullable().optional(),
  entropy: entropyDevice.nullable().optional(),
  balloon: balloonDevice.nullable().optional(),
  logger: logger.nullable().optional(),
  metrics: metricsTarget.nullable().optional(),
  serial: serialDevice.nullable().optional(),
});
