/** Requests to `tsvm serve`. */
import type { Binding } from '../devices/host-slot.js';
import type { Draft } from './draft.js';

/** Source of a machine: a draft, or a folder that one was saved in; and a command for a guest that waits for one. */
export type PoolRequest = (
  | { readonly draft: Draft }
  | {
      readonly snapshot: string;
      readonly devices?: SlotBindings | undefined;
      /** False: its guest learns nothing but its host name, and has the saved machine's random numbers. */
      readonly fresh?: boolean | undefined;
    }
) & { readonly command?: readonly string[] | undefined };

/** Bindings of a saved machine's slots by their names: what it may have of the host. */
export type SlotBindings = Readonly<Record<string, Binding>>;
