/** Part of a text that says which image of several is meant: `:NAME` or `@sha256:...` after a path. */
import { DIGEST } from '../digest.js';

export type Selector =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'digest'; readonly digest: string };

export interface Selected {
  readonly path: string;
  readonly selector?: Selector;
}

/** Ways to read a text as a path and what follows it, the longest path first. Names have colons and slashes, and so may paths. */
export function* readingsOf(text: string): Generator<Selected> {
  yield { path: text };
  const at = text.lastIndexOf('@');
  const digest = text.slice(at + 1);
  if (at > 0 && DIGEST.test(digest)) yield { path: text.slice(0, at), selector: { kind: 'digest', digest } };
  for (let colon = text.lastIndexOf(':'); colon > 0; colon = text.lastIndexOf(':', colon - 1)) {
    yield { path: text.slice(0, colon), selector: { kind: 'name', name: text.slice(colon + 1) } };
  }
}

/** The selector as it is typed after a path. */
export const selectorText = (selector: Selector): string =>
  selector.kind === 'name' ? `:${selector.name}` : `@${selector.digest}`;
