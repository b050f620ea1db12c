// What t/sdk-handover.t does with the official SDK, in Node or, where conf
// names a Chromium, in a page: node t/sdk/handover.js CONF RESULT (files).

const { profile, run } = require('../browser/browser.js');

// QB: the SDK, which has neither an auth_key nor an auth_secret.
async function scenario(QB, conf) {
    const seen = {};
    const gateway = `https://${conf.gateway}`;

    // The result of an SDK's call, or its error.
    const call = (of, name, ...args) => new Promise(resolve =>
        of[name](...args, (error, result) => resolve(error
            ? { code: error.code, detail: error.detail } : { result })));

    const ask = async (method, path, headers = {}) => {
        const res = await fetch(gateway + path, { method, headers });

        return [res.status, await res.json()];
    };

    // Endpoints of one's own, or the SDK asks QuickBlox for them.
    QB.initWithAppId(92, 'account key',
        { endpoints: { api: conf.gateway, chat: conf.gateway } });


    seen.handed = [await ask('POST', '/start'), await ask('POST', '/start')];
    seen.started = await call(QB, 'startSessionWithToken',
        seen.handed[0][1].session.token);
    seen.before = await call(QB.data, 'create', 'Note', { text: 'a' });
    seen.login = await call(QB, 'login', conf.user);
    seen.check = await call(QB, 'getSession');
    seen.note = await call(QB.data, 'create', 'Note', { text: 'b' });
    seen.users = await call(QB.users, 'listUsers');
    seen.own = (await fetch(`${gateway}/own`)).headers.get('X-Session')
        .split(' ')[0];
    seen.logout = await call(QB, 'logout');
    seen.after = await call(QB.data, 'create', 'Note', { text: 'c' });


    const authorization = value => ({ Authorization: value });

    seen.dora = [await ask('GET', '/staff', authorization(conf.dora)),
        await ask('GET', '/staff', authorization(conf.dora))];
    seen.taken = await call(QB, 'startSessionWithToken',
        seen.dora[0][1].session.token);
    seen.herNote = await call(QB.data, 'create', 'Note', { text: 'd' });

    // What the SDK ends, the gateway does not hand out once more.
    seen.herLogout = await call(QB, 'logout');
    seen.dora.push(await ask('GET', '/staff', authorization(conf.dora)));
    await call(QB, 'startSessionWithToken', seen.dora[2][1].session.token);
    seen.herEnd = await call(QB, 'destroySession');
    seen.dora.push(await ask('GET', '/staff', authorization(conf.dora)));
    seen.takenAgain = await call(QB, 'startSessionWithToken',
        seen.dora[3][1].session.token);

    seen.emil = await ask('GET', '/staff', authorization(conf.emil));

    return seen;
}

async function inPage(browser, conf) {
    const page = await (await profile(browser)).newPage();

    await page.goto(`https://${conf.gateway}/page/index.html`);

    return page.evaluate(`(${scenario})(QB, ${JSON.stringify(conf)})`);
}

run((browser, conf) => browser ? inPage(browser, conf)
    : scenario(require('quickblox'), conf));
