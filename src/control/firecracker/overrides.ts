/** Bindings that come with a request to load a saved machine, in Firecracker's words and in tsvm's: what it may have of the host. */
import type { z } from 'zod';
import type { NetConfig } from '../../devices/net/options.js';
import type { MachineConfig } from '../../machine/config.js';
import { ApiError } from '../api-error.js';
import type { SlotBindings } from '../pool-request.js';
import type * as models from './models.js';
import { interfaceId } from './setup.js';

type Overrides = Pick<
  z.infer<typeof models.snapshotLoad>,
  'network_overrides' | 'vsock_override' | 'tsvm_devices'
>;

/** Bindings by the names of slots. @throws ApiError if a slot is not there, or named twice. */
export function bindingsOf({ devices = [] }: MachineConfig, overrides: Overrides): SlotBindings {
  const cards = devices
    .filter(({ kind }) => kind === 'net')
    .map(({ config }, i) => interfaceId((config as Partial<NetConfig> | undefined)?.id, i));
  const bindings = new Map(Object.entries(overrides.tsvm_devices ?? {}));
  const bind = (slot: string, binding: SlotBindings[string]): void => {
    if (bindings.has(slot)) throw new ApiError(`${slot} is named twice.`);
    bindings.set(slot, binding);
  };
  for (const { iface_id, host_dev_name } of overrides.network_overrides ?? []) {
    const ordinal = cards.indexOf(iface_id);
    if (ordinal < 0) {
      const has = cards.length === 0 ? 'no network card' : cards.join(', ');
      throw new ApiError(
        `network_overrides: unknown network device ${iface_id}: the saved machine has ${has}.`,
      );
    }
    bind(`net ${ordinal}`, { backend: 'tap', name: host_dev_name });
  }
  if (overrides.vsock_override !== undefined) {
    if (!devices.some(({ kind }) => kind === 'vsock'))
      throw new ApiError('vsock_override: the saved machine has no vsock.');
    bind('vsock', { path: overrides.vsock_override.uds_path });
  }
  return Object.fromEntries(bindings);
}
