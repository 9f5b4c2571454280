/** `--config-file`: a machine in Firecracker's words. */
import { readInputText } from '../../host/files.js';
import { MIB } from '../../util/units.js';

/** Limit of a configuration, of which a machine with every device fills some KiB. */
const MAX_CONFIG_BYTES = MIB;

/** @throws TsvmError `TSVM_FILE` */
export async function readConfigFile(path: string): Promise<string> {
  return await readInputText('the configuration', path, { code: 'TSVM_FILE', maxBytes: MAX_CONFIG_BYTES });
}
