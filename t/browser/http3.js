// What t/http3.t does, by scripts of a page that came over HTTP/3.
//
// conf: page (URL; its origin has the locations), control (of the stand-in
// API), token (a client's), log (nginx's access log), chromium, quic (see
// browser.js)

const fs = require('fs');

const { profile, run } = require('./browser.js');

run(async (browser, conf) => {
    const context = await profile(browser);
    const page = await context.newPage();
    const seen = {};

    const ask = (path, options = {}) => page.evaluate(
        async ([path, { parts, ...options }]) => {
            if (parts) {
                const end = new Promise(done => window.end = done);

                options.duplex = 'half';
                options.body = new ReadableStream({
                    async pull(controller) {
                        const part = parts.shift();

                        if (part === undefined) {
                            controller.close();
                            return;
                        }

                        // The end is to come later.
                        if (part === null) {
                            await end;
                            controller.close();
                            return;
                        }

                        controller.enqueue(new TextEncoder().encode(part));
                        await new Promise(done => setTimeout(done, 50));
                    }
                });
            }

            const response = await fetch(path, options);
            const text = await response.text();

            return {
                status: response.status,
                type: response.headers.get('Content-Type'),
                seen: response.headers.get('X-Seen'),
                json: text.startsWith('{') ? JSON.parse(text) : text
            };
        }, [path, options]);

    const post = (path, type, body) => ask(path, { method: 'POST', ...body,
        headers: type ? { 'Content-Type': type } : {} });
    const json = 'application/json';

    const control = (name, data) => fetch(`${conf.control}/-/${name}`,
        data && { method: 'POST', body: JSON.stringify(data) })
        .then(response => response.json());
    const until = async condition => {
        while (!await condition()) {
            await new Promise(done => setTimeout(done, 20));
        }
    };

    const log = () => fs.readFileSync(conf.log, 'utf8').split('\n').length;

    // The server answers before the body ends, the browser gives the answer
    // to the page only then.
    const early = async (path, type, parts) => {
        const before = log();
        const answer = post(path, type, { parts: [...parts, null] });

        await until(() => log() > before);
        await page.evaluate(() => window.end());

        return answer;
    };

    await page.goto(conf.page);

    const headers = { 'QB-Token': conf.token };

    seen.miss = await ask('/client/a', { headers });
    seen.hit = await ask('/client/a', { headers });
    seen.missing = await ask('/client/b');
    seen.user = await ask('/user/a');

    // The gateway's session ends, and what it was for has a body.
    for (const size of [1000, 300000]) {
        await control('expire', { user_id: 1 });
        seen[`replay${size}`] = await ask('/user/replay',
            { method: 'POST', body: 'b'.repeat(size) });
        await control('expire', { user_id: 1 });
        seen[`streamed${size}`] = await ask('/user/replay', { method: 'POST',
            parts: ['b'.repeat(size / 2), 'b'.repeat(size / 2)] });
    }

    // Logins
    const bob = JSON.stringify({ login: 'bob', password: 'Canary-Bob-Pw' });
    const wrong = JSON.stringify(
        { login: 'bob', password: 'Canary-Wrong-Pw' });

    seen.nobody = await ask('/me');
    seen.login = await post('/login', json, { body: bob });
    seen.me = await ask('/me');
    seen.call = await ask('/cookie/a');
    seen.logout = await post('/logout');
    seen.out = await ask('/cookie/b');
    seen.parts = await post('/login', json,
        { parts: [bob.slice(0, 9), bob.slice(9, 20), bob.slice(20)] });
    seen.wrong = await post('/login', json, { body: wrong });
    seen.large = await post('/login', json, { body: 'x'.repeat(17000) });
    seen.largeParts = await early('/login', json,
        ['x'.repeat(10000), 'x'.repeat(10000)]);

    // Refused before the body is read, in the midst of it, and after it
    seen.proxied = {
        type: await post('/proxied', 'text/plain', { body: wrong }),
        typeEarly: await early('/proxied', 'text/plain', [wrong]),
        large: await post('/proxied', json, { body: 'x'.repeat(50000) }),
        largeEarly: await early('/proxied', json,
            ['x'.repeat(10000), 'x'.repeat(10000)]),
        malformed: await post('/proxied', json, { body: '{' }),
        wrong: await post('/proxied', json, { body: wrong })
    };

    // Who goes away while the API is asked
    await control('expire', { all: true });
    await control('fail', { endpoint: 'GET /session.json', hold: true });
    await page.evaluate(path => {
        window.gone = new AbortController();
        fetch(path, { signal: window.gone.signal,
            headers: { 'QB-Token': 'a'.repeat(40) } }).catch(() => {});
    }, '/client/gone');
    await until(async () => (await control('held')).held);
    await page.evaluate(() => window.gone.abort());
    await until(() => / \/client\/gone 499 /
        .test(fs.readFileSync(conf.log, 'utf8')));
    await control('heal');
    await control('release', {});

    // Many at once, which wait for one session
    seen.many = await page.evaluate(() => Promise.all(
        Array.from({ length: 50 }, (_, i) => fetch(`/user/many/${i}`, {
            method: i % 2 ? 'POST' : 'GET',
            body: i % 2 ? 'b'.repeat(1000 * i) : undefined
        }).then(async response => {
            const { token, body_length } = await response.json();

            return [response.status, token, body_length];
        }))));

    await context.close();

    return seen;
});
