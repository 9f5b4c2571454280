/** Makes everything that tests need of the network: `node test/built/run/prefetch.mjs`. */
import { prefetchAll } from '../support/prefetch.js';

try {
  prefetchAll((line) => console.log(line));
} catch {
  process.exitCode = 1; // it has been said
}
