/** Extended attributes of a share's files and folders: those of the user namespace, if the share has the option. */

import { decodeName, encodeName } from '../../devices/backends/file-names.js';
import { type FileOwner, fileError, type SetXattrHow } from '../../devices/backends/file-system.js';
import type { FolderIo } from './folder-io.js';
import type { FolderNode } from './folder-node.js';
import type { FolderNodes } from './folder-nodes.js';

const USER_XATTR = 'user.';
/** XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h. */
const MAX_XATTR_BYTES = 65_536;
/** Flags of setxattr(2). */
const SET_XATTR_FLAGS: Readonly<Record<SetXattrHow, number>> = { set: 0, create: 1, replace: 2 };

export class FolderXattrs {
  readonly #io: FolderIo;
  readonly #nodes: FolderNodes;
  readonly #has: boolean;

  constructor(io: FolderIo, nodes: FolderNodes, has: boolean) {
    this.#io = io;
    this.#nodes = nodes;
    this.#has = has;
  }

  async get(node: FolderNode, name: string, user: FileOwner): Promise<Uint8Array> {
    this.#check(node, name);
    const value = new Uint8Array(MAX_XATTR_BYTES);
    const length = await this.#nodes.use(node, user, (fd) =>
      this.#io.call('getXattr', user, fd, encodeName(name), value),
    );
    return value.subarray(0, length);
  }

  async set(
    node: FolderNode,
    name: string,
    value: Uint8Array,
    how: SetXattrHow,
    user: FileOwner,
  ): Promise<void> {
    this.#check(node, name);
    const flags = SET_XATTR_FLAGS[how];
    await this.#nodes.use(node, user, (fd) =>
      this.#io.call('setXattr', user, fd, encodeName(name), value, flags),
    );
  }

  async list(node: FolderNode, user: FileOwner): Promise<readonly string[]> {
    if (!this.#has) throw fileError('ENOSYS');
    if (!node.isFile && !node.isFolder) return [];
    const names = new Uint8Array(MAX_XATTR_BYTES);
    const length = await this.#nodes.use(node, user, (fd) => this.#io.call('listXattr', user, fd, names));
    return decodeName(names.subarray(0, length))
      .split('\0')
      .filter((name) => name.startsWith(USER_XATTR));
  }

  async remove(node: FolderNode, name: string, user: FileOwner): Promise<void> {
    this.#check(node, name);
    await this.#nodes.use(node, user, (fd) => this.#io.call('removeXattr', user, fd, encodeName(name)));
  }

  /** Refuses the other namespaces, which give rights on the host or say what those of the host are. Links and devices have none. */
  #check(node: FolderNode, name: string): void {
    if (!this.#has) throw fileError('ENOSYS');
    if (!name.startsWith(USER_XATTR)) throw fileError('EOPNOTSUPP');
    if (!node.isFile && !node.isFolder) throw fileError('EPERM');
  }
}
