import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** Why passt cannot run here, if it cannot. It needs a default route, of which it takes nothing but the interface. */
export function passtProblem(): string | undefined {
  if (spawnSync('passt', ['--version']).error !== undefined)
    return 'passt is not installed: apt-get install passt';
  const routes = readFileSync('/proc/net/route', 'latin1').split('\n');
  return routes.some((line) => line.split('\t')[1] === '00000000') ? undefined : 'there is no default route';
}
