/** Requests to `tsvm serve`. */
import type { Binding } from '../devices/host-slot.js';
import type { Setup } from './firecracker/setup.js';

/** What a machine is made of: a configuration in Firecracker's words, or a folder that one was saved in. */
export type PoolRequest =
  | { readonly config: Setup }
  | {
      readonly snapshot: string;
      readonly command?: readonly string[] | undefined;
      readonly devices?: SlotBindings | undefined;
      /** False: its guest learns nothing but its host name, and has the saved machine's random numbers. */
      readonly fresh?: boolean | undefined;
    };

/** Bindings of a saved machine's slots by their names: what it may have of the host. */
export type SlotBindings = Readonly<Record<string, Binding>>;
