/** First word of `tsvm run`: an image, or a program of the default guest. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { parseReference } from '../../image/reference.js';
import { isInLocalStore } from '../../image/source/local-store.js';
import { imageDirectory, NAMES } from '../../image/store-folder.js';
import { complain } from '../complain.js';
import { lookUpImage } from './pull-image.js';

/** Words of a `tsvm run` command line, taken apart. */
export interface RunWords {
  /** Image that the first word names; undefined if that is a program, or there is an `--image`. */
  readonly image?: string;
  /** Program and arguments. */
  readonly words: readonly string[];
  /** Tells that nothing which was typed decides about the first word, and that it could be an image's name. */
  readonly isEither: boolean;
}

/** Digits of an id that `tsvm images` shows; with fewer, `dd` and `bc` would be ids too. */
const ID = /^[0-9a-f]{12,64}$/;

/** Takes the words of a command apart, as the operator typed them. @param options - `image` is that of `--image` */
export async function takeWords(command: Command, { image }: { image?: string }): Promise<RunWords> {
  const words = command.args;
  const [first, ...rest] = words;
  if (first === undefined || image !== undefined || isAfterDashes(command)) return { words, isEither: false };
  if (looksLikeImage(first) || (await isKept(first)))
    return { image: first, words: rest[0] === '--' ? rest.slice(1) : rest, isEither: false };
  return { words, isEither: !/^[./~]/.test(first) && isReference(first) };
}

/** Tells whether `--` stood before the words, which commander takes away. */
function isAfterDashes(command: Command): boolean {
  const { rawArgs } = command.parent as unknown as { readonly rawArgs: readonly string[] };
  return rawArgs.at(-command.args.length - 1) === '--';
}

/**
 * Tells whether a word is an image's by its form: `debian:12`, `owner/app`, `app@sha256:...`. A word without `:`, `@` or `/` may be a program, and a path
 * is one.
 */
export function looksLikeImage(word: string): boolean {
  return isInLocalStore(word) || (/[:@/]/.test(word) && isReference(word));
}

function isReference(word: string): boolean {
  try {
    parseReference(word);
    return true;
  } catch {
    return false;
  }
}

/** Tells whether a word names an image that is kept. Each `tsvm run` comes here, so what is not one is known by the names alone. */
async function isKept(word: string): Promise<boolean> {
  const directory = imageDirectory();
  if (!existsSync(join(directory, NAMES))) return false;
  try {
    const { NameStore } = await import('../../image/names.js');
    const isCandidate =
      ID.test(word) || new NameStore(directory).list().some(({ name }) => name?.endsWith(`/${word}:latest`));
    return isCandidate && (await lookUpImage(word, 'missing')).reference === undefined;
  } catch {
    return false; // What is wrong with the folder of images is no concern of a program's.
  }
}

/** Says both spellings of a word that was taken for a program, and is none of the guest. */
export function sayBothSpellings(word: string): void {
  complain(
    `tsvm: ${word}: no program of the guest; if an image was meant: tsvm run --image ${word}, or as a program: tsvm run -- ${word}`,
  );
}

/**
 * Tells whether an initramfs of ours has a program of that name. Those of its busybox are in that file's list of names, each between two zeros.
 */
export function hasProgram(initramfs: string, word: string): boolean {
  return readFileSync(initramfs).includes(`\0${word}\0`);
}
