// For a script of a test, which may drive Debian's Chromium: node SCRIPT CONF
// RESULT (files of JSON).

const fs = require('fs');

const { chromium } = require('playwright-core');

// Without a "chromium" in the configuration there is no browser.
async function run(scenario) {
    const [conf, result] = process.argv.slice(2);
    const settings = JSON.parse(fs.readFileSync(conf, 'utf8'));

    // Whoever started this may have gone without saying so.
    process.stdin.on('end', () => process.exit(1)).resume();

    const browser = settings.chromium
        && await launch(settings.chromium, settings.quic);
    const seen = await scenario(browser, settings);

    await browser?.close();
    fs.writeFileSync(result, JSON.stringify(seen));
    process.exit(0);
}

// quic: {origin, key} of the server that is asked over HTTP/3 alone; without
// nobody is.
const launch = (path, quic) => chromium.launch({
    executablePath: path,
    args: [...quic ? [`--origin-to-force-quic-on=${quic.origin}`,
        `--ignore-certificate-errors-spki-list=${quic.key}`]
        : ['--disable-quic'], '--disable-background-networking',
        '--disable-component-update', '--disable-sync',
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1']
});

// A profile of its own.
async function profile(browser, options = {}) {
    const context = await browser.newContext({
        ignoreHTTPSErrors: true, locale: 'en-GB', ...options
    });

    context.setDefaultTimeout(15000);

    return context;
}

module.exports = { run, profile };
