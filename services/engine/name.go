package engine

import (
	"crypto/rand"
	"math/big"
	"strconv"
)

// Names that are invented are of ships: a word for how she is, and one for what.
var (
	nameHow = []string{"able", "bright", "bold", "calm", "daring", "eager", "fair", "fleet", "gallant", "gentle", "hardy", "jolly",
		"keen", "lively", "lucky", "merry", "nimble", "proud", "quick", "quiet", "restless", "salty", "sound", "steady", "stout",
		"sturdy", "sunny", "swift", "trim", "trusty", "wary", "weathered", "wise", "yare"}
	nameWhat = []string{"barge", "bark", "brig", "caravel", "carrack", "catboat", "clipper", "cog", "coracle", "corvette", "cutter",
		"dhow", "dory", "felucca", "frigate", "galleon", "galley", "gig", "hulk", "jolle", "junk", "ketch", "lugger", "packet",
		"pinnace", "polacre", "prau", "punt", "schooner", "shallop", "skiff", "sloop", "smack", "snow", "tartane", "tender",
		"trireme", "whaler", "wherry", "xebec", "yawl"}
)

// inventName finds a name that is free.
func (e *Engine) inventName() string {
	for try := 0; ; try++ {
		name := pick(nameHow) + "_" + pick(nameWhat)
		if try > 5 {
			name += strconv.Itoa(try)
		}
		e.mu.Lock()
		_, taken := e.byName[name]
		e.mu.Unlock()
		if !taken {
			return name
		}
	}
}

func pick(list []string) string {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(list))))
	if err != nil {
		return list[0]
	}
	return list[n.Int64()]
}
