/** What is asked of `tsvm serve`. */
import type { Setup } from './firecracker/setup.js';

/** What a machine is made of: a configuration in Firecracker's words, or a folder that one was saved in. */
export type PoolRequest =
  | { readonly config: Setup }
  | { readonly snapshot: string; readonly command?: readonly string[] | undefined };
