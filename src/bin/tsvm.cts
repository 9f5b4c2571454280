#!/usr/bin/env -S node --
const { load } = require('./code-cache.cjs') as { load(bundle: string): void };
load(`${__dirname}/main.cjs`);
