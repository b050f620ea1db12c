// The scenario in Node: node t/sdk/node.js CONF RECIPE RESULT (files).

const fs = require('fs');
const path = require('path');

const [conf, recipe, result] = process.argv.slice(2)
    .map(name => path.resolve(name));

const QB = require('quickblox');
const scenario = require('./scenario.js');

scenario(QB, require(recipe), JSON.parse(fs.readFileSync(conf, 'utf8')))
    .then(seen => fs.writeFileSync(result, JSON.stringify(seen)));
