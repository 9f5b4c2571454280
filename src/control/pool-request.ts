/** What is asked of `tsvm serve`. */
import type { Binding } from '../devices/host-slot.js';
import type { Setup } from './firecracker/setup.js';

/** What a machine is made of: a configuration in Firecracker's words, or a folder that one was saved in. */
export type PoolRequest =
  | { readonly config: Setup }
  | {
      readonly snapshot: string;
      readonly command?: readonly string[] | undefined;
      readonly devices?: SlotBindings | undefined;
    };

/** What a saved machine may have of the host, by the names of its slots. */
export type SlotBindings = Readonly<Record<string, Binding>>;
