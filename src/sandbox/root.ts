/** Image that a sandbox's root is made of, and what it says of commands. */
import { resolve } from 'node:path';
import { defaultEnvironment } from '../container/config.js';
import { findGuest } from '../guest/store.js';
import { imageEnvironment } from '../image/environment.js';
import type { Image } from '../image/image.js';
import { ImageStore } from '../image/store.js';
import type { Abortable } from '../util/abort.js';
import type { SandboxOptions } from './options.js';

/** Host name of a sandbox without a name. */
export const HOSTNAME = 'tsvm';

export interface SandboxImage {
  readonly store: ImageStore;
  readonly image: Image;
}

/** Surroundings of commands before their user is known. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string | number;
}

/** Opens the image that is asked for. @throws TsvmError `TSVM_IMAGE` if there is none */
export async function openSandboxImage(text: string, options: Abortable): Promise<SandboxImage> {
  const store = new ImageStore();
  return { store, image: await store.open(text, options) };
}

/** Opens the root of the default guest, for a container. */
export async function openGuestRoot(options: Abortable): Promise<SandboxImage> {
  const store = new ImageStore();
  const { initrd } = await findGuest();
  return { store, image: await store.openGuest(initrd, options) };
}

/** Puts together what the image and the caller say of commands. */
export function surroundingsOf(options: SandboxOptions, opened: SandboxImage | undefined): Surroundings {
  const { env = {}, cwd, user, name = HOSTNAME } = options;
  const config = opened?.image.config ?? {};
  return {
    env: { ...defaultEnvironment(name, false), ...imageEnvironment(config.env ?? []), ...env },
    cwd: cwd ?? resolve('/', config.workdir ?? ''),
    user: user ?? (config.user || 0),
  };
}
