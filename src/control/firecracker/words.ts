/** Errors of the library in the words of Firecracker's API, whose clients know no field of a machine's configuration. */
import { TsvmError } from '../../errors.js';
import { inWords, type Words } from '../../util/words.js';
import type { Route } from '../http/route.js';

export const FIRECRACKER_WORDS: Words = {
  heads: { 'memoryBytes: ': 'mem_size_mib: ', 'cpus: ': 'vcpu_count: ' },
  code: {
    kernel: '`kernel_image_path`',
    "kernel: 'FILE'": '`"kernel_image_path": "FILE"`',
    initrd: '`initrd_path`',
    "initrd: 'FILE'": '`"initrd_path": "FILE"`',
    cmdline: '`boot_args`',
    memoryBytes: '`mem_size_mib`',
    'memoryBytes: 128 * 2 ** 20': '`"mem_size_mib": 128`',
    'memoryBytes: 2 ** 30': '`"mem_size_mib": 1024`',
    'cpus: 2': '`"vcpu_count": 2`',
    'blk({ path })': '`PUT /drives`',
    'blk({ path, readOnly: true })': '`PUT /drives` with `"is_read_only": true`',
    "net({ backend: 'tap', name: 'tap0' })": '`"host_dev_name": "tap0"`',
    'balloon()': '`PUT /balloon`',
    'vsock()': '`PUT /vsock`',
  },
};

/** The route, whose refusals are in these words. */
export function inFirecrackerWords(route: Route): Route {
  return {
    ...route,
    async handle(call) {
      try {
        return await route.handle(call);
      } catch (error) {
        if (!(error instanceof TsvmError)) throw error;
        const { message, hint } = inWords(error, FIRECRACKER_WORDS);
        throw new TsvmError(error.code, message, { hint, cause: error });
      }
    },
  };
}
