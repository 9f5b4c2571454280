/** The programs in the documentation: fenced TypeScript and JavaScript of Markdown files and of doc comments. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

export const REPOSITORY: string = join(import.meta.dirname, '../..');

const LANGUAGES: Readonly<Record<string, '.mts' | '.mjs'>> = {
  ts: '.mts',
  typescript: '.mts',
  mts: '.mts',
  js: '.mjs',
  javascript: '.mjs',
  mjs: '.mjs',
};

export interface Snippet {
  /** File and line of its first line of code, relative to the repository: `docs/channel.md:8`. */
  readonly name: string;
  readonly code: string;
  /** Path at which it is compiled: beside the file that it is in, so that relative imports mean what they say there. */
  readonly path: string;
}

/** Finds every program in a Markdown text. `line`: where the text begins in `file`. */
export function snippetsIn(text: string, file: string, line = 1): Snippet[] {
  const found: Snippet[] = [];
  for (const match of text.matchAll(/^( *)(```+|~~~+)([\w-]*)[^\n]*\n(.*?)^ *\2 *$/gms)) {
    const [, indent = '', , language = '', body = ''] = match;
    const extension = LANGUAGES[language.toLowerCase()];
    if (extension === undefined) continue;
    const first = line + text.slice(0, match.index).split('\n').length;
    found.push({
      name: `${file}:${first}`,
      code: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      path: join(REPOSITORY, dirname(file), `${basename(file)}.${first}${extension}`),
    });
  }
  return found;
}

/** A doc comment without its stars. */
interface DocComment {
  readonly text: string;
  readonly line: number;
}

export function docComments(source: string): DocComment[] {
  return [...source.matchAll(/\/\*\*.*?\*\//gs)].map((match) => ({
    text: match[0].slice(3, -2).replaceAll(/^ *\* ?/gm, ''),
    line: source.slice(0, match.index).split('\n').length,
  }));
}

/** Lines of `@example` tags after which no program follows. */
export function examplesWithoutProgram({ text, line }: DocComment): number[] {
  const [before = '', ...examples] = text.split(/^(?=@example\b)/m);
  let at = line + before.split('\n').length - 1;
  return examples.flatMap((example) => {
    const own = example.split(/\n@\w/)[0] ?? '';
    const found = at;
    at += example.split('\n').length - 1;
    return snippetsIn(own, '').length === 0 ? [found] : [];
  });
}

/** Markdown files that a user or contributor reads. */
export function documents(): string[] {
  return ['.', 'docs', 'guests', 'firmware', 'kvm-addon', 'bench', 'test/rig'].flatMap((folder) =>
    readdirSync(join(REPOSITORY, folder), { recursive: folder === 'docs', encoding: 'utf8' })
      .filter((name) => name.endsWith('.md'))
      .map((name) => join(folder, name)),
  );
}

export function sources(): string[] {
  return readdirSync(join(REPOSITORY, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.c?ts$/.test(name))
    .map((name) => join('src', name));
}

export const textOf = (file: string): string => readFileSync(join(REPOSITORY, file), 'utf8');

/** Every program of the documentation. */
export function allSnippets(): Snippet[] {
  return [
    ...documents().flatMap((file) => snippetsIn(textOf(file), file)),
    ...sources().flatMap((file) =>
      docComments(textOf(file)).flatMap(({ text, line }) => snippetsIn(text, file, line)),
    ),
  ];
}

/** The program for a place where no package is installed: `tsvm` is `library`, and relative imports are absolute. */
export function relocated({ code, path }: Snippet, library: string): string {
  return code.replaceAll(/(\bfrom ')(tsvm|\.[^']*)(')/g, (_, before, specifier, after) => {
    const target = specifier === 'tsvm' ? library : join(dirname(path), specifier).replace(/\.js$/, '.ts');
    return `${before}${pathToFileURL(target).href}${after}`;
  });
}
