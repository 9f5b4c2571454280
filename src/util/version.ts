/** Version of tsvm, the same as in package.json: scripts/release writes both. */
export const VERSION = '0.1.0';
