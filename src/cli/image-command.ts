/** What `--image` says of a command: where its root is, who it is, and its surroundings; the same for a machine and a container. */

import { resolve } from 'node:path';
import { defaultEnvironment } from '../container/config.js';
import { TsvmError } from '../errors.js';
import type { Image, ImageStore } from '../image/image.js';
import type { ImageUser } from '../image/user.js';
import type { GuestCommand } from '../machine/config.js';
import { environment, parseVariables } from './environment.js';

export interface ImageCommandOptions {
  readonly image: string;
  readonly user?: string;
  readonly workdir?: string;
  readonly hostname?: string;
  readonly env?: readonly string[];
}

export interface ImageCommand {
  readonly image: Image;
  readonly store: ImageStore;
  readonly hostname: string;
  readonly command: GuestCommand & {
    readonly cwd: string;
    readonly user: ImageUser;
    readonly env: Record<string, string>;
  };
}

/** Of both kinds, unless they are named. */
const HOSTNAME = 'tsvm';

/** Opens the image, which is unpacked the first time, and says so. */
export async function imageCommand(
  words: readonly string[],
  options: ImageCommandOptions,
): Promise<ImageCommand> {
  // Most commands need none of it.
  const [{ ImageStore }, { userOf }, { imageEnvironment }] = await Promise.all([
    import('../image/image.js'),
    import('../image/user.js'),
    import('../image/environment.js'),
  ]);
  const store = new ImageStore();
  const image = await store.open(options.image, () =>
    process.stderr.write(`tsvm: unpacking ${options.image} into ${store.directory}, once\n`),
  );
  const { config } = image;
  const argv = [...(config.entrypoint ?? []), ...(words.length > 0 ? words : (config.cmd ?? []))];
  if (argv.length === 0) {
    throw new TsvmError('TSVM_USAGE', `image ${options.image} names no command`, {
      hint: 'give one: -- COMMAND',
    });
  }
  const user = userOf(image, options.user ?? config.user ?? '0');
  const hostname = options.hostname ?? HOSTNAME;
  const env = {
    ...defaultEnvironment(hostname, false),
    HOME: user.home,
    TERM: process.env['TERM'] ?? 'linux',
    ...imageEnvironment(config.env ?? []),
    ...environment(parseVariables(options.env ?? [])),
  };
  return {
    image,
    store,
    hostname,
    command: { argv, env, user, cwd: options.workdir ?? resolve('/', config.workdir ?? '') },
  };
}
