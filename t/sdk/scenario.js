// What t/sdk.t does with the official SDK, in Node and in a page of another
// origin alike.  Tells what came of it; t/sdk.t judges that.

// recipe: the listener of docs/recipes.md, as a function.  conf: the gateway
// (host and port) and a server of it without CORS (URL), the stand-in API
// (URL), a login and tokens of this run's own.
async function scenario(QB, recipe, conf) {
    const seen = { listener: 0 };

    // Simple requests, in the sense of CORS: no preflight, nothing to read.
    const control = (name, data = {}) => fetch(`${conf.api}/-/${name}`, {
        method: 'POST', mode: 'no-cors', body: JSON.stringify(data)
    });
    const mark = name => fetch(`${conf.api}/${name}`, { mode: 'no-cors' });

    // The result of an SDK's call, or its error.
    const call = (of, name, ...args) => new Promise(resolve =>
        of[name](...args, (error, result) => resolve(error
            ? { code: error.code, detail: error.detail } : { result })));

    // What can be read of an answer.
    const ask = async (url, token, method = 'GET') => {
        try {
            const headers = token ? { 'QB-Token': token } : {};
            const res = await fetch(url, { method, headers });

            return [res.status, await res.text()];
        } catch (error) {
            return [0, error.name];
        }
    };

    const counting = {
        init(...args) {
            const { on } = args[args.length - 1];
            const listener = on.sessionExpired;

            on.sessionExpired = (next, retry) => {
                seen.listener++;
                listener(next, retry);
            };

            QB.init(...args);
        },
        createSession: (...args) => QB.createSession(...args)
    };

    const user = { login: conf.login, password: 'Canary-Carol-Pw' };

    recipe(counting, 92, 'wJHd4cQSxpQGWx5', 'jyqGNhbGxkvBTgd', user);


    // A session, a user, a login: one token all the way.

    seen.session = await call(QB, 'createSession');
    seen.readonly = await call(QB.data, 'create', 'Note', { text: 'a' });
    seen.created = await call(QB.users, 'create', user);
    seen.login = await call(QB, 'login', user);
    seen.check = await call(QB, 'getSession');
    seen.users = await call(QB.users, 'listUsers');
    seen.note = await call(QB.data, 'create', 'Note', { text: 'b' });


    // Twenty calls on a stale token.  The new session takes its time, so that
    // all of them are refused before it is there.

    await control('expire', { all: true });
    await control('fail',
        { endpoint: 'POST /session.json', delay: 1, times: 1 });
    await mark('twenty');

    seen.twenty = await Promise.all(Array.from({ length: 20 },
        () => call(QB.users, 'listUsers')));

    await mark('end');


    // The end of the session, and a call without one.

    seen.destroyed = await call(QB, 'destroySession');
    seen.without = await call(QB.users, 'listUsers');


    // Refusals, as a page reads them without an SDK.

    const [live, application, foreign] = conf.tokens;

    await control('session', { token: live, user_id: 5 });
    await control('session', { token: application });
    await control('session',
        { token: foreign, application_id: 93, user_id: 7 });

    const users = `https://${conf.gateway}/users.json`;
    const notes = `https://${conf.gateway}/data/Note.json`;

    seen.refusals = [
        await ask(users),
        await ask(users, '0123456789'),
        await ask(users, foreign),
        await ask(notes, application, 'POST')
    ];

    // Mapped: the gateway has just validated the token.
    await ask(users, live);
    await control('expire', { token: live });
    seen.refusals.push(await ask(users, live));

    await control('fail', { endpoint: 'GET /session.json', status: 500 });
    seen.refusals.push(await ask(users, '9876543210'));
    await control('heal');

    seen.plain = await ask(conf.plain);

    return seen;
}

if (typeof module !== 'undefined') {
    module.exports = scenario;
}
