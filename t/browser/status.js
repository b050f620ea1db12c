// What t/status.t does with the page of "quickblox_status".
//
// conf: page (URL), more (URL of what is counted), shots (a folder), chromium

const { profile, run } = require('./browser.js');

run(async (browser, conf) => {
    const errors = [], foreign = [];
    const context = await profile(browser);
    const origin = new URL(conf.page).origin;

    context.on('console', message => {
        if (['error', 'warning'].includes(message.type())) {
            errors.push(message.text());
        }
    });
    context.on('weberror', error => errors.push(String(error.error())));
    context.on('request', request => {
        if (!/^data:/.test(request.url())
            && new URL(request.url()).origin !== origin) {
            foreign.push(request.url());
        }
    });

    const page = await context.newPage();
    await page.goto(conf.page);

    const hits = () => page.evaluate(() => {
        const row = [...document.querySelectorAll('td:first-child')]
            .find(cell => cell.textContent === 'api_key');

        return Number(row.parentElement.cells[1].textContent);
    });

    const titles = await page.locator('h2').allTextContents();
    const before = await hits();

    for (let n = 0; n < 5; n++) {
        await page.request.get(conf.more);
    }

    let after;

    for (let n = 0; n < 100 && after !== before + 5; n++) {
        await page.waitForResponse(conf.page);
        after = await hits();
    }

    for (const colorScheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme });
        await page.screenshot({
            path: `${conf.shots}/status-${colorScheme}.png`, fullPage: true
        });
    }

    await page.setViewportSize({ width: 360, height: 740 });
    await page.screenshot({
        path: `${conf.shots}/status-phone.png`, fullPage: true
    });

    const overflow = await page.evaluate(() => Math.max(0,
        document.documentElement.scrollWidth - window.innerWidth));

    return { errors, foreign, titles, before, after, overflow };
});
