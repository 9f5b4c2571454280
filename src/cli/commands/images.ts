/** `tsvm images`, `rmi` and `tag`: images that are kept under names. */
import { Command } from 'commander';
import { TsvmError } from '../../errors.js';
import type { KeptImage, KeptImages, RemoveOptions } from '../../image/kept-images.js';
import { parseReference, shortReference } from '../../image/reference.js';
import { formatAge } from '../../util/age.js';
import { formatBytes } from '../../util/units.js';
import { complain } from '../complain.js';
import { inFlags } from '../flags.js';
import { registrySettings } from '../options/registry-options.js';
import { formatTable } from '../table.js';

/** Digits of an id in a table; Docker's. */
const SHORT_ID_CHARACTERS = 12;
const NONE = '<none>';

const EXAMPLES = `
Examples:
  tsvm images                     names, ids, and how much they take
  tsvm images -q debian           ids of the images that are called debian, of any tag
  tsvm images --json | jq -r '.[].names[]'`;

interface ImagesOptions {
  quiet?: boolean;
  json?: boolean;
  trunc: boolean;
  digests?: boolean;
}

/** Opens the images that are kept; most commands need none of its code. */
export async function keptImages(): Promise<KeptImages> {
  const { KeptImages } = await import('../../image/kept-images.js');
  return new KeptImages();
}

/** Registry, and path for names of one part, that this user's names without a registry mean. */
export async function unqualifiedName(): Promise<string> {
  const { readRegistryConfig } = await import('../../image/registry/config.js');
  return (await readRegistryConfig(registrySettings().rules)).unqualified;
}

/** Says that nothing is removed while images are fetched or saved. */
export const onWait = (): void => complain('tsvm: waiting for a process that fetches or saves images');

export function imagesCommand(): Command {
  return new Command('images')
    .summary('list images that are kept under names')
    .description(
      'List the images that were pulled, loaded or tagged. SIZE is that of their blobs, as they came.',
    )
    .argument('[name]', 'only images of that name: debian, debian:12')
    .option('-q, --quiet', 'only ids')
    .option('--no-trunc', 'ids in full')
    .option('--digests', 'digests of manifests, too')
    .option('--json', 'all that is known of each, as a list')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string | undefined, options: ImagesOptions) => {
      const images = await (await keptImages()).list();
      const wanted = name === undefined ? undefined : parseReference(name, await unqualifiedName());
      // A tag that was not typed is any tag.
      const hasTag = name !== undefined && /[:@][^/]*$/.test(name);
      const rows = images.flatMap((image) =>
        (image.names.length === 0 ? [undefined] : image.names).flatMap((one) => {
          const reference = one === undefined ? undefined : parseReference(one);
          const fits =
            wanted === undefined ||
            (reference?.registry === wanted.registry &&
              reference.repository === wanted.repository &&
              (!hasTag || reference.tag === wanted.tag));
          return fits ? [{ image, reference }] : [];
        }),
      );
      const shown = [...new Set(rows.map(({ image }) => image))];
      if (options.json === true) process.stdout.write(`${JSON.stringify(shown, undefined, 2)}\n`);
      else if (options.quiet === true)
        for (const { id } of shown) process.stdout.write(`${idOf(id, options)}\n`);
      else {
        const digests = options.digests === true;
        process.stdout.write(
          formatTable(
            ['REPOSITORY', 'TAG', ...(digests ? ['DIGEST'] : []), 'IMAGE ID', 'CREATED', 'SIZE'],
            rows.map(({ image, reference }) => [
              reference === undefined
                ? NONE
                : shortReference({ ...reference, tag: '' }).replace(/:(@.*)?$/, ''),
              reference?.tag ?? NONE,
              ...(digests ? [image.digest] : []),
              idOf(image.id, options),
              createdText(image),
              image.whole ? formatBytes(image.bytes) : 'not whole',
            ]),
          ),
        );
      }
    });
}

function idOf(id: string, { trunc }: ImagesOptions): string {
  return trunc ? id.replace(/^sha256:/, '').slice(0, SHORT_ID_CHARACTERS) : id;
}

function createdText({ createdMs }: KeptImage): string {
  return createdMs === undefined ? '-' : `${formatAge(Date.now() - createdMs)} ago`;
}

const RMI_EXAMPLES = `
Examples:
  tsvm rmi debian:12              take the name away; with its last name goes the image
  tsvm rmi 3f2a9c01               an image by its id
  tsvm rmi $(tsvm images -q)`;

export function rmiCommand(): Command {
  return new Command('rmi')
    .summary('remove images')
    .description(
      'Remove names of images; an image goes with its last name, and with it what no other image needs of its blobs, and what was made of it.',
    )
    .argument('<image...>', 'by name or id')
    .option('-f, --force', 'also one that has several names, or is used; one that is not there is no error')
    .addHelpText('after', RMI_EXAMPLES)
    .action(async (texts: string[], { force = false }: { force?: boolean }) => {
      const kept = await keptImages();
      const how = { force, unqualified: await unqualifiedName(), onWait };
      for (const text of texts) {
        try {
          await removeOne(text, kept, how);
        } catch (error) {
          // The others are removed all the same.
          if (!(error instanceof TsvmError)) throw error;
          const { message, hint } = inFlags(error);
          complain(`tsvm: ${message}`);
          if (hint !== undefined) complain(`hint: ${hint}`);
          process.exitCode = 2;
        }
      }
    });
}

async function removeOne(text: string, kept: KeptImages, how: RemoveOptions): Promise<void> {
  if (how.force === true && (await kept.open(text, how.unqualified).catch(() => ({}))) === undefined) return;
  const { names, id, usedBy } = await kept.remove(text, how);
  for (const name of names) process.stdout.write(`Untagged: ${name}\n`);
  if (id !== undefined) process.stdout.write(`Deleted: ${id}\n`);
  if (usedBy.length > 0)
    complain(
      `tsvm: what was made of it stays until process ${usedBy.join(', ')} has ended and tsvm system prune`,
    );
}

export function tagCommand(): Command {
  return new Command('tag')
    .summary('give an image another name')
    .description('Give an image another name. An image that had the name keeps its other ones, or has none.')
    .argument('<image>', 'by name or id')
    .argument('<name>', 'NAME[:TAG]')
    .addHelpText(
      'after',
      '\nExamples:\n  tsvm tag debian:12 mine:1\n  tsvm tag 3f2a9c01 registry.example:5000/team/app',
    )
    .action(async (text: string, name: string) => {
      const unqualified = await unqualifiedName();
      const reference = parseReference(name, unqualified);
      if (reference.digest !== undefined)
        throw new TsvmError('TSVM_USAGE', `${name}: an image’s digest cannot be chosen`, {
          hint: 'NAME[:TAG]',
        });
      const kept = await keptImages();
      const { image } = await kept.find(text, unqualified);
      kept.names.set(reference, image.digest);
    });
}
