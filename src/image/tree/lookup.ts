/** Files of a tree by their paths. */
import { type DirectoryNode, type FileNode, MAX_LINKS } from './tree.js';

/** File that a path leads to, as in a root of its own: an absolute link or `..` leads no higher. Undefined if there is none. */
export function fileAt(root: DirectoryNode, path: string): FileNode | undefined {
  const folders = [root];
  const rest = path.split('/').reverse();
  let links = 0;
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      if (folders.length > 1) folders.pop();
      continue;
    }
    const child = folders.at(-1)?.children.get(part);
    if (child?.kind === 'link' && ++links <= MAX_LINKS) {
      if (child.target.startsWith('/')) folders.length = 1;
      rest.push(...child.target.split('/').reverse());
    } else if (child?.kind === 'directory') {
      folders.push(child);
    } else {
      return child?.kind === 'file' && rest.length === 0 ? child : undefined;
    }
  }
  return undefined;
}
