// A vitest reporter for .ci/run: how each test ended, with the reason of the skipped ones, as .cache/ci/tests.json.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const output = '.cache/ci/tests.json';

/** A block skipped as a whole has no note: its name says why, in brackets. */
const reasonInName = (name) => /\(not run: ([^)]+)\)/.exec(name)?.[1];

export default class Reporter {
  onTestRunEnd(modules, unhandled) {
    const tests = [];
    /** A file that does not even load has no tests that could fail. */
    const broken = unhandled.map((error) => `unhandled error: ${error.message}`);
    for (const file of modules) {
      broken.push(...file.errors().map((error) => `${file.relativeModuleId}: ${error.message}`));
      for (const test of file.children.allTests()) {
        const { state, note } = test.result();
        tests.push({ file: file.relativeModuleId, name: test.fullName, state, note: note ?? reasonInName(test.fullName) });
      }
    }
    mkdirSync(dirname(output), { recursive: true });
    writeFileSync(output, JSON.stringify({ tests, broken }));
  }
}
