/** Command that is run in an image: its root, its user and its surroundings; the same for a machine and a container. */

import { resolve } from 'node:path';
import { defaultEnvironment } from '../../container/config.js';
import { TsvmError } from '../../errors.js';
import type { GuestCommand } from '../../guest/command.js';
import { DEBIAN_GUEST, findGuest, type Guest } from '../../guest/store.js';
import type { Image, ImageStore } from '../../image/image.js';
import type { ImageConfig } from '../../image/oci-layout.js';
import type { ImageUser } from '../../image/user.js';
import { guestRemedy } from '../../util/package-file.js';
import { environment, parseVariables } from '../environment.js';

export interface ImageCommandOptions {
  /** Default: the root of the guest that tsvm builds. */
  readonly image?: string;
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

/** Host name of both kinds, unless one is given. */
const HOSTNAME = 'tsvm';

/** Looks whether there is such an image, and a command for it. @throws TsvmError `TSVM_IMAGE`, or `TSVM_USAGE` if it names no command. */
export async function lookAtImage(words: readonly string[], text: string): Promise<void> {
  const { ImageStore } = await import('../../image/image.js');
  argvOf(words, await new ImageStore().look(text), text);
}

/** Words of a command, as Docker puts them together. */
function argvOf(words: readonly string[], { entrypoint, cmd }: ImageConfig, name: string): string[] {
  const argv = [...(entrypoint ?? []), ...(words.length > 0 ? words : (cmd ?? []))];
  if (argv.length > 0) return argv;
  throw new TsvmError('TSVM_USAGE', `image ${name} names no command`, { hint: 'give one: -- COMMAND' });
}

async function guestForRoot(): Promise<Guest> {
  try {
    return await findGuest();
  } catch (error) {
    if (!(error instanceof TsvmError)) throw error;
    // Its kernel may be none for this host; its root is the same.
    const debian = await findGuest(DEBIAN_GUEST).catch(() => undefined);
    if (debian !== undefined) return debian;
    throw new TsvmError(error.code, error.message, {
      hint: `${guestRemedy()}; or give another root: --image DIR, ARCHIVE or LAYOUT`,
      cause: error,
    });
  }
}

/** Opens the image, which is unpacked the first time, and says so. */
export async function imageCommand(
  words: readonly string[],
  options: ImageCommandOptions,
): Promise<ImageCommand> {
  // Most commands need none of it.
  const [{ ImageStore }, { userOf }, { imageEnvironment }] = await Promise.all([
    import('../../image/image.js'),
    import('../../image/user.js'),
    import('../../image/environment.js'),
  ]);
  const store = new ImageStore();
  const path = options.image ?? (await guestForRoot()).initrd;
  const sayUnpacking = (): void =>
    void process.stderr.write(`tsvm: unpacking ${path} into ${store.directory}, once\n`);
  const image = await (options.image === undefined
    ? store.openGuest(path, sayUnpacking)
    : store.open(path, sayUnpacking));
  const { config } = image;
  const argv = argvOf(words, config, path);
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
    // As Docker does, also one that is not the image's.
    command: { argv, env, user, cwd: options.workdir ?? resolve('/', config.workdir ?? ''), makeCwd: true },
  };
}
