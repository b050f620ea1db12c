// What t/browser.t does with the login page, as a person would; it judges
// what is seen here.
//
// conf: page, other (URLs: the login page, another origin of the same host),
// control (of the stand-in API), shots (a folder), chromium

const { profile, run } = require('./browser.js');

const errors = [];          // of the console
const exchanges = [];       // all that goes over the network
const places = [];          // where a script could find something
const bodies = [];

// The last that "first" does is to exceed the rate of logins.
run(async (browser, conf) => ({
    withoutScript: await withoutScript(browser, conf),
    policy: await policy(browser, conf),
    basic: await basic(browser, conf),
    first: await first(browser, conf),
    errors, exchanges, places
}));

const control = (conf, name, data = {}) => fetch(`${conf.control}/-/${name}`,
    { method: 'POST', body: JSON.stringify(data) });


// Everything is written down.

function record(context) {
    context.on('response', response => bodies.push(keep(response)));

    context.on('console', message => {
        if (['error', 'warning'].includes(message.type())) {
            errors.push({ text: message.text(), url: message.location().url });
        }
    });

    context.on('weberror', error => errors.push(
        { text: String(error.error()), url: '' }));
    context.on('dialog', dialog => {
        errors.push({ text: 'a dialog', url: dialog.page().url() });
        dialog.dismiss();
    });
}

async function keep(response) {
    const request = response.request();
    const text = list => list.map(({ name, value }) => `${name}: ${value}`);

    exchanges.push({
        method: request.method(),
        url: response.url(),
        status: response.status(),
        asked: text(await request.headersArray()),
        answered: text(await response.headersArray()),
        body: await response.body().then(String, () => null)
    });
}

async function look(page) {
    await Promise.all(bodies);

    places.push(await page.evaluate(async () => JSON.stringify([
        document.cookie, { ...localStorage }, { ...sessionStorage },
        await indexedDB.databases(), await caches.keys(), name, location.href,
        [...document.querySelectorAll('input')].map(input => input.value),
        document.documentElement.outerHTML
    ])));
}


// A browser forgets the bodies of the page that it leaves.
async function reload(page) {
    await Promise.all(bodies);
    await page.reload();
}


// The page as a person has it.

function state(page) {
    return page.evaluate(() => {
        const get = id => document.getElementById(id);
        const message = get('message');

        return {
            title: document.title,
            heading: get('heading').textContent,
            message: message.textContent,
            isError: message.classList.contains('error'),
            login: get('login-form').checkVisibility(),
            session: get('session').checkVisibility(),
            user: get('user').textContent,
            application: get('application').textContent,
            expires: Date.parse(get('expires').dateTime) / 1000,
            answer: get('answer').checkVisibility()
                ? get('answer').textContent : '',
            password: get('password').value,
            invalid: get('password').getAttribute('aria-invalid'),
            focus: document.activeElement.id
        };
    });
}

// What is on the page once this text is.
async function after(page, text) {
    await page.getByText(text).waitFor();
    await page.locator('main:not([aria-busy])').waitFor();
    await look(page);

    return state(page);
}

async function type(page, login, password) {
    await page.getByLabel('Login or email').fill(login);
    await page.getByLabel('Password').fill(password);
    await page.getByRole('button', { name: 'Log in' }).click();
}

async function call(page, path) {
    await page.getByLabel('Protected API').fill(path);
    await page.getByRole('button', { name: 'Call' }).click();
}

const request = (page, method, path) => page.evaluate(
    async ([method, path]) => {
        const res = await fetch(path, { method });

        return [res.status, await res.text()];
    }, [method, path]);

const cookies = async page => (await page.context().cookies())
    .filter(({ name }) => name.includes('quickblox'));


// The colours and sizes of what can be seen.

function looks(page) {
    return page.evaluate(() => {
        const canvas = document.createElement('canvas').getContext('2d',
            { willReadFrequently: true });

        const luminance = color => {
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);

            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data]
                .map(byte => byte / 255)
                .map(x => x <= .04045 ? x / 12.92
                    : ((x + .055) / 1.055) ** 2.4);

            return .2126 * r + .7152 * g + .0722 * b;
        };

        const background = element => {
            const color = getComputedStyle(element).backgroundColor;

            return color === 'rgba(0, 0, 0, 0)'
                ? background(element.parentElement) : color;
        };

        const contrast = element => {
            const [a, b] = [getComputedStyle(element).color,
                background(element)].map(luminance);

            return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        };

        const all = [...document.querySelectorAll('main *')]
            .filter(element => element.checkVisibility()
                && element.type !== 'hidden');

        return {
            background: getComputedStyle(document.body).backgroundColor,
            texts: all.filter(element => element.textContent).length,
            contrast: Math.min(...all.map(contrast)),
            height: Math.min(...all
                .filter(element => element.matches('input, button'))
                .map(element => element.getBoundingClientRect().height)),
            font: Math.min(...all
                .filter(element => element.matches('input'))
                .map(element => parseFloat(getComputedStyle(element)
                    .fontSize))),
            overflow: document.documentElement.scrollWidth - innerWidth,
            unnamed: all.filter(element => element.matches('input')
                && !element.labels?.length).length
        };
    });
}


async function first(browser, conf) {
    const seen = {};
    const context = await profile(browser,
        { viewport: { width: 1000, height: 760 } });

    record(context);

    const page = await context.newPage();
    const shot = name => page.screenshot(
        { path: `${conf.shots}/${name}.png` });
    const expire = () => control(conf, 'expire', { all: true });


    await page.goto(conf.page);
    await page.getByRole('button', { name: 'Log in' }).waitFor();
    seen.opened = await after(page, 'Password');
    seen.status = await page.getByRole('status').getAttribute('id');
    seen.lightLogin = await looks(page);

    await type(page, 'bob', 'Canary-Wrong-Pw');
    seen.wrong = await after(page, 'Wrong login or password.');
    seen.wrongCookies = await cookies(page);
    await shot('wrong');


    // By the keyboard only, from where the page has put the focus.

    await reload(page);
    await page.locator('#login:focus').waitFor();
    await page.keyboard.type('bob');
    await page.keyboard.press('Tab');
    await page.keyboard.type('Canary-Bob-Pw');
    await page.keyboard.press('Enter');
    seen.in = await after(page, 'You are logged in');
    seen.inCookies = await cookies(page);

    await reload(page);
    seen.reloaded = await after(page, 'You are logged in');

    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    seen.called = await after(page, 'The API has answered.');
    seen.lightSession = await looks(page);
    await shot('session');

    const other = await context.newPage();

    await other.goto(conf.page);
    seen.otherTab = await after(other, 'You are logged in');


    // T51: a page of the same site, so the cookie comes along.

    await other.goto(conf.other);
    seen.foreign = await other.evaluate(async url => {
        const ask = (path, method) => fetch(url + path,
            { method, mode: 'no-cors', credentials: 'include' })
            .then(res => res.type, error => error.name);

        return [await ask('api/foreign', 'POST'),
            await ask('logout', 'POST'), await ask('me', 'GET')];
    }, conf.page);
    await Promise.all(bodies);
    await other.close();
    await call(page, '/api/still');
    seen.still = await after(page, 'The API has answered.');


    // What is no end of a session

    await call(page, '/api/missing');
    seen.missing = await after(page, 'This did not work');
    await call(page, '/api/busy');
    seen.busy = await after(page, 'Try again in 7 seconds.');

    await context.setOffline(true);
    await call(page, '/api/never');
    seen.offline = await after(page, 'No answer came.');
    await context.setOffline(false);

    // Nobody knows whether there is a session.
    await page.route('**/me', route => route.fulfill({
        status: 503, headers: { 'Retry-After': '3' },
        body: '{"errors":{"base":["Service is temporarily unavailable"]}}'
    }), { times: 1 });
    await reload(page);
    seen.unsure = await after(page, 'Try again in 3 seconds.');
    seen.sureAgain = await after(page, 'You are logged in');


    // A phone at night

    await page.setViewportSize({ width: 320, height: 640 });
    await page.emulateMedia({ colorScheme: 'dark' });
    await call(page, '/api/phone');
    seen.phone = await after(page, 'The API has answered.');
    seen.darkSession = await looks(page);
    await shot('session-dark-phone');


    // The session ends at QuickBlox.

    await expire();
    await call(page, '/api/ended');
    seen.ended = await after(page, 'Your session has ended.');
    seen.endedCookies = await cookies(page);
    seen.darkLogin = await looks(page);
    await shot('ended-dark-phone');

    await type(page, 'bob@example.com', 'Canary-Bob-Pw');
    seen.email = await after(page, 'You are logged in');
    await page.getByRole('button', { name: 'Log out' }).click();
    await after(page, 'You are logged out.');
    await type(page, 'alice', 'Canary-Alice-Pw');
    seen.again = await after(page, 'You are logged in');
    [seen.old] = await cookies(page);


    // Logged out

    await page.getByRole('button', { name: 'Log out' }).click();
    seen.out = await after(page, 'You are logged out.');
    seen.outCookies = await cookies(page);
    seen.outMe = await request(page, 'GET', '/me');
    seen.outCall = await request(page, 'GET', '/api/out');

    // The cookie that somebody has kept
    await context.addCookies([seen.old]);
    seen.oldCall = await request(page, 'GET', '/api/old');
    seen.oldCookies = await cookies(page);

    await reload(page);
    seen.outReloaded = await after(page, 'Password');

    // Back in the history, where the session was there still
    await type(page, 'alice', 'Canary-Alice-Pw');
    await after(page, 'You are logged in');
    await context.clearCookies();
    await page.evaluate(() => dispatchEvent(
        new PageTransitionEvent('pageshow', { persisted: true })));
    seen.back = await after(page, 'Password');


    // The API is down, and back.

    await control(conf, 'fail',
        { endpoint: 'POST /session.json', status: 500 });
    await type(page, 'bob', 'Canary-Bob-Pw');
    seen.down = await after(page, 'The service is not available.');
    await control(conf, 'heal');
    seen.healed = await patient(page);
    await page.getByRole('button', { name: 'Log out' }).click();
    await after(page, 'You are logged out.');

    // Somebody tries passwords.
    for (let i = 0; i < 200; i++) {
        const [status] = await request(page, 'POST', '/login');

        if (status === 429) {
            await type(page, 'bob', 'Canary-Bob-Pw');
            await answered(page);
            seen.limited = await state(page);

            if (seen.limited.login) {
                break;
            }

            await page.getByRole('button', { name: 'Log out' }).click();
            await after(page, 'You are logged out.');
        }
    }

    await look(page);
    await context.close();

    return seen;
}

const answered = page => page
    .locator('#session:not([hidden]), #message.error').waitFor();

// As the page says: once more after so many seconds.
async function patient(page) {
    for (let i = 0; i < 5; i++) {
        const { message } = await state(page);
        const [, seconds] = /in (\d+) second/.exec(message);

        await new Promise(done => setTimeout(done, 1000 * seconds));
        await type(page, 'bob', 'Canary-Bob-Pw');
        await answered(page);

        const now = await state(page);

        if (now.session) {
            return now;
        }
    }
}


// The form works by itself.

async function withoutScript(browser, conf) {
    const context = await profile(browser, { javaScriptEnabled: false });
    const page = await context.newPage();

    await page.goto(conf.page);

    const [login] = await Promise.all([
        page.waitForResponse(/\/login$/),
        page.waitForResponse(conf.page),
        type(page, 'alice', 'Canary-Alice-Pw')
    ]);

    const me = await page.goto(`${conf.page}me`);
    const seen = {
        login: [login.status(), login.headers().location],
        me: JSON.parse(await me.text())
    };

    await context.close();

    return seen;
}


// The Content-Security-Policy is in force.

async function policy(browser, conf) {
    const context = await profile(browser);
    const page = await context.newPage();

    await page.goto(conf.page);

    const seen = await page.evaluate(async () => {
        const violations = [];

        document.addEventListener('securitypolicyviolation',
            event => violations.push(event.effectiveDirective));

        const script = document.createElement('script');

        script.textContent = 'window.isInjected = true';
        document.body.append(script);
        document.body.setAttribute('style', 'color: rgb(1, 2, 3)');

        const fetched = await fetch('http://127.0.0.1:9/')
            .then(() => 'yes', () => 'no');

        await new Promise(done => setTimeout(done));

        return {
            isInjected: window.isInjected ?? false,
            color: getComputedStyle(document.body).color,
            fetched, violations
        };
    });

    await context.close();

    return seen;
}


// T68: what would open the browser's password window.

async function basic(browser, conf) {
    const context = await profile(browser);
    const page = await context.newPage();
    const session = await context.newCDPSession(page);
    const seen = {};
    let asked = 0;
    let answer = { response: 'CancelAuth' };

    // What the page has given up in the meantime cannot go on.
    session.on('Fetch.requestPaused', ({ requestId }) =>
        session.send('Fetch.continueRequest', { requestId })
            .catch(() => {}));
    session.on('Fetch.authRequired', ({ requestId }) => {
        asked++;
        session.send('Fetch.continueWithAuth',
            { requestId, authChallengeResponse: answer });
    });

    const open = async url => {
        const response = await page.goto(url);

        return [response.status(), response.headers()['www-authenticate']];
    };

    const counting = async action => {
        asked = 0;

        const result = await action();

        return [result, asked];
    };

    await session.send('Fetch.enable', { handleAuthRequests: true });
    await page.goto(conf.other);

    // Of a script, and of a page's own parts
    seen.scripts = await counting(() => page.evaluate(async () => {
        const loaded = url => new Promise(done => {
            const image = new Image();

            image.onload = () => done('loaded');
            image.onerror = () => done('refused');
            image.src = url;
        });

        const sent = method => new Promise(done => {
            const xhr = new XMLHttpRequest();

            xhr.onloadend = () => done([xhr.status,
                xhr.getResponseHeader('WWW-Authenticate')]);
            xhr.open(method, '/basic/xhr');
            xhr.send();
        });

        const res = await fetch('/basic/fetch');

        return [[res.status, res.headers.get('WWW-Authenticate')],
            await sent('GET'), await sent('POST'),
            await loaded('/basic/image')];
    }));

    // A person opens the address: is asked, and cancels; or knows it.
    seen.cancelled = await counting(() => open(`${conf.other}basic/open`));
    answer = { response: 'ProvideCredentials', username: 'bob',
        password: 'Canary-Bob-Pw' };
    seen.entered = await counting(() => open(`${conf.other}basic/open`));

    // Then its scripts are in, too.
    await page.goto(conf.other);
    seen.fetched = await counting(() => page.evaluate(
        () => fetch('/basic/known').then(res => res.status)));

    await context.close();

    return seen;
}
